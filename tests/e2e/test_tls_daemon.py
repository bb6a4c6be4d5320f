"""TLS with the real daemon: what clients and programs see, and what each death costs."""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certificates
import contract
from daemon import TIMEOUT, Daemon, receive_all, running, wait_gone
from folders import public_folder
from proxy_headers import v1
from ucspid.cli import client

PYTHON = [contract.PYTHON, "-I", "-S", "-c"]
CHUNK = bytes(range(256)) * 256
MEGABYTES = 4

DIGEST = """
import hashlib, sys
digest = hashlib.sha256()
while data := sys.stdin.buffer.read1(65536):
    digest.update(data)
sys.stdout.write(digest.hexdigest())
"""
SEND = f"""
import os
chunk = bytes(range(256)) * 256
for _ in range({MEGABYTES * 16}):
    view = memoryview(chunk)
    while view:
        view = view[os.write(1, view):]
"""
STARTTLS = """
import os, sys
os.write(1, b"220 ready\\r\\n")
for line in iter(lambda: os.read(0, 1000), b""):
    if line.strip().upper() == b"STARTTLS":
        os.write(1, b"220 go ahead\\r\\n")
        os.write(int(os.environ["SSLCTLFD"]), b"Y")
        variables = b""
        while not variables.endswith(b"\\0\\0"):
            variables += os.read(int(os.environ["SSLCTLFD"]), 4096) or sys.exit(1)
        reading, writing = int(os.environ["SSLREADFD"]), int(os.environ["SSLWRITEFD"])
        for line in iter(lambda: os.read(reading, 1000), b""):
            os.write(writing, line.upper())
        break
    if line.strip().upper() == b"QUIT":
        os.write(1, b"221 bye\\r\\n")
        break
    os.write(1, b"250-me\\r\\n250 STARTTLS\\r\\n" if line[:4].upper() == b"EHLO" else b"250 ok\\r\\n")
"""


def tls(**changed: Any) -> dict[str, Any]:
    return {"mode": "implicit", **changed}


def services() -> dict[str, Any]:
    made = certificates.shared()
    required = {"client_certificates": "require", "client_ca": str(made / "ca.pem")}
    usual: dict[str, dict[str, Any]] = {
        "echo": {"program": ["cat"]},
        "digest": {"program": [*PYTHON, DIGEST]},
        "send": {"program": [*PYTHON, SEND]},
        "new": {"program": ["cat"], "tls": tls(min_version="1.3")},
        "required": {"program": ["cat"], "tls": tls(**required)},
        "few": {"program": ["cat"], "tls": tls(max_handshakes=3)},
        "impatient": {"program": ["cat"], "tls": tls(handshake_timeout="1s")},
        "proxied": {
            "program": ["sh", "-c", "read word; echo $word $TCPREMOTEIP $SSL_PROTOCOL"],
            "proxy": {"from": ["127.0.0.1"]},
        },
        "environment": {"program": ["sh", "-c", "read word; env"]},
        "starttls": {"program": [*PYTHON, STARTTLS], "tls": tls(mode="starttls")},
        "plain": {"program": ["cat"], "tls": None},
    }
    for item in usual.values():
        item.setdefault("tls", tls())
        item["listen"] = "127.0.0.1:0"
        if item["tls"] is None:
            del item["tls"]
    return usual


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """Return one that tests do not harm."""
    with secure_daemon() as daemon:
        yield daemon


@contextlib.contextmanager
def secure_daemon(**changed: Any) -> Iterator[Daemon]:
    with public_folder(parent="/var/tmp") as folder:
        shutil.copy(certificates.shared() / "mail.example.org.pem", folder / "mail.pem")
        config: dict[str, Any] = {
            "tls": {"certificates": "mail.pem"},
            "log": {"format": "json", "level": "debug"},
            "services": services(),
        }
        with running(folder, {**config, **changed}) as daemon:
            yield daemon


def context(**changed: Any) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def connect(
    daemon: Daemon, service: str, made: ssl.SSLContext | None = None, **wrapped: Any
) -> ssl.SSLSocket:
    sock = daemon.connect(service)
    wrapped.setdefault("server_hostname", "mail.example.org")
    return (made or context()).wrap_socket(sock, suppress_ragged_eofs=False, **wrapped)


def says(sock: socket.socket, word: bytes) -> None:
    """Assert that a word comes back."""
    sock.sendall(word)
    answer = b""
    while len(answer) < len(word):
        piece = sock.recv(len(word) - len(answer))
        assert piece, answer
        answer += piece
    assert answer == word


def tls_pids(daemon: Daemon) -> list[int]:
    return daemon.children("ucspid: tls")


# Clients


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_echo_over_each_version(daemon: Daemon, version: ssl.TLSVersion) -> None:
    made = context(minimum_version=version, maximum_version=version)
    with connect(daemon, "echo", made) as sock:
        for size in (1, 100, 60_000):
            says(sock, b"x" * size)
        with contextlib.closing(sock.unwrap()) as plain:
            assert plain.recv(1) == b""


def test_a_service_may_want_the_newest_version_only(daemon: Daemon) -> None:
    with pytest.raises((ssl.SSLError, OSError)):
        connect(daemon, "new", context(maximum_version=ssl.TLSVersion.TLSv1_2))
    event = daemon.wait_event("connection_refused", service="new", reason="tls_failed")
    assert event["detail"] == "unsupported protocol"
    with connect(daemon, "new") as sock:
        says(sock, b"word")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client(daemon: Daemon, version: str) -> None:
    host, port = daemon.address("echo")
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", "mail.example.org"]
    command += ["-CAfile", str(certificates.shared() / "ca.pem"), "-verify_return_error", "-ign_eof", version]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a word\n")
        process.stdin.flush()
        lines = iter(process.stdout.readline, b"")
        assert b"a word\n" in lines
        process.kill()


def test_tlsclient(daemon: Daemon) -> None:
    """Our own client, whose program ends its data first and reads on, with and without a certificate."""
    made = certificates.shared()
    half_closing = """
import socket, sys
server = socket.socket(fileno=7)
server.sendall(b"word" * 20000)
server.shutdown(socket.SHUT_WR)
while data := server.recv(65536):
    sys.stdout.buffer.write(data)
"""
    trusting = ["-RHl0", "-a", str(made / "ca.pem"), "-k", "mail.example.org"]
    own = ["-c", str(made / "client.example.org.pem")]
    for service, more in (("echo", []), ("new", []), ("required", own)):
        where = [str(part) for part in daemon.address(service)[:2]]
        tool = [sys.executable, "-m", "ucspid", "tlsclient"]
        command = [*tool, *trusting, *more, *where, *PYTHON, half_closing]
        ended = subprocess.run(command, check=False, capture_output=True, timeout=TIMEOUT)
        assert (ended.returncode, ended.stdout == b"word" * 20000, ended.stderr) == (0, True, b""), service


def test_large_data_each_way_is_whole(daemon: Daemon) -> None:
    whole = CHUNK * (MEGABYTES * 16)
    with connect(daemon, "send") as sock:
        assert hashlib.sha256(receive_to_the_end(sock)).digest() == hashlib.sha256(whole).digest()
    with daemon.connect("digest") as plain:
        half = HalfClosing(plain)
        half.send(whole)
        half.close_one_way()
        assert half.rest().decode() == hashlib.sha256(whole).hexdigest()
        assert plain.recv(1) == b""


def test_what_a_program_has_sent_arrives_though_it_exits_and_has_not_read_what_came(daemon: Daemon) -> None:
    with connect(daemon, "send") as sock:
        sock.sendall(b"x" * 10_000)
        assert len(receive_to_the_end(sock)) == len(CHUNK) * MEGABYTES * 16


def receive_to_the_end(sock: ssl.SSLSocket) -> bytes:
    pieces: list[bytes] = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


class HalfClosing:
    """A client that says close_notify and reads on, which Python's SSLSocket cannot."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context().wrap_bio(self.incoming, self.outgoing, server_hostname="mail.example.org")
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.exchange()
        self.sock.sendall(self.outgoing.read())

    def exchange(self) -> None:
        self.sock.sendall(self.outgoing.read())
        data = self.sock.recv(65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.sock.sendall(self.outgoing.read())

    def close_one_way(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.sock.sendall(self.outgoing.read())

    def rest(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            try:
                piece = self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.exchange()
                continue
            except ssl.SSLZeroReturnError:
                return b"".join(pieces)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)


def test_clients_certificates_may_be_required(daemon: Daemon) -> None:
    made = context()
    made.load_cert_chain(certificates.shared() / "client.example.org.pem")
    with connect(daemon, "required", made) as sock:
        says(sock, b"word")
    with pytest.raises((ssl.SSLError, OSError)), connect(daemon, "required") as sock:
        says(sock, b"word")
    event = daemon.wait_event("connection_refused", service="required")
    assert (event["reason"], event["detail"]) == ("tls_failed", "peer did not return a certificate")


def test_what_is_not_tls_is_refused_and_nothing_is_answered_in_clear(daemon: Daemon) -> None:
    with daemon.connect("echo") as sock:
        sock.sendall(b"USER somebody\r\n")
        answer = receive_until_gone(sock)
        assert answer in (b"", b"\x15\x03\x01\x00\x02\x02\x46") or answer[:1] == b"\x15"  # an alert
    daemon.wait_event("connection_refused", service="echo", reason="tls_failed")


def receive_until_gone(sock: socket.socket) -> bytes:
    try:
        return receive_all(sock)
    except ConnectionResetError:
        return b""


def test_a_client_that_vanishes_ends_its_session(daemon: Daemon) -> None:
    sock = connect(daemon, "echo")
    says(sock, b"word")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    remote = "{}:{}".format(*sock.getsockname())
    os.close(sock.detach())
    served = daemon.wait_event("connection_served", service="echo", remote=remote)
    daemon.wait_event("tls_ended", how="vanished", conn=served["conn"])


def test_a_connection_that_is_cut_off_is_reported(daemon: Daemon) -> None:
    sock = connect(daemon, "echo")
    says(sock, b"word")
    remote = "{}:{}".format(*sock.getsockname())
    os.close(sock.detach())
    served = daemon.wait_event("connection_served", service="echo", remote=remote)
    daemon.wait_event("tls_ended", how="truncated", conn=served["conn"], received=4, sent=4)


def test_a_header_of_the_proxy_protocol_comes_before_tls(daemon: Daemon) -> None:
    sock = daemon.connect("proxied")
    sock.sendall(v1("192.0.2.7", "198.51.100.1"))
    with context().wrap_socket(sock, server_hostname="mail.example.org") as secured:
        secured.sendall(b"word\n")
        assert receive_to_the_end(secured) == b"word 192.0.2.7 TLSv1.3\n"


def test_a_session_is_resumed_by_whichever_process_it_comes_to_and_after_reload_and_upgrade() -> None:
    made = context(maximum_version=ssl.TLSVersion.TLSv1_2)
    with secure_daemon() as daemon:
        with connect(daemon, "echo", made) as sock:
            says(sock, b"word")
            session = sock.session
        assert not sock.session_reused
        for change in (None, "reload", "upgrade"):
            if change == "reload":
                daemon.reload({"services": services() | {"more": services()["echo"]}})
            elif change == "upgrade":
                client.call(daemon.control, "upgrade", {}, TIMEOUT)
                daemon.wait_event("upgraded")
            for _ in range(4):  # more than there are processes: they have turns
                with connect(daemon, "echo", made, session=session) as sock:
                    says(sock, b"word")
                    assert sock.session_reused, change


# TLS that the program asks for


def starttls(daemon: Daemon) -> ssl.SSLSocket:
    sock = daemon.connect("starttls")
    assert sock.recv(100) == b"220 ready\r\n"
    sock.sendall(b"STARTTLS\r\n")
    assert sock.recv(100) == b"220 go ahead\r\n"
    return context().wrap_socket(sock, server_hostname="mail.example.org", suppress_ragged_eofs=False)


def test_a_program_asks_for_tls(daemon: Daemon) -> None:
    with starttls(daemon) as sock:
        sock.sendall(b"word")
        assert sock.recv(100) == b"WORD"
        assert daemon.differences() == []
    daemon.wait_event("tls_started", tls="TLSv1.3")


def test_a_program_that_does_not_ask_for_tls_speaks_without(daemon: Daemon) -> None:
    with daemon.connect("starttls") as sock:
        assert sock.recv(100) == b"220 ready\r\n"
        sock.sendall(b"QUIT\r\n")
        assert receive_all(sock) == b"221 bye\r\n"


def test_a_client_that_asks_and_then_speaks_no_tls(daemon: Daemon) -> None:
    with daemon.connect("starttls") as sock:
        assert sock.recv(100) == b"220 ready\r\n"
        sock.sendall(b"STARTTLS\r\n")
        assert sock.recv(100) == b"220 go ahead\r\n"
        sock.sendall(b"EHLO me\r\n")
        receive_until_gone(sock)
    event = daemon.wait_event("tls_not_started")
    daemon.wait_event("connection_served", service="starttls", conn=event["conn"])


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not here (Debian package swaks)")
@pytest.mark.skipif(subprocess.call(["perl", "-MNet::SSLeay", "-e1"], stderr=subprocess.DEVNULL) != 0,
                    reason="Net::SSLeay is not here (Debian package libnet-ssleay-perl)")  # fmt: skip
def test_swaks_starts_tls(daemon: Daemon) -> None:
    host, port = daemon.address("starttls")
    command = ["swaks", "--server", host, "--port", str(port), "--helo", "me", "--tls", "--drop-after", "TLS"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "TLS started with cipher TLSv1.3" in done.stdout


# Floods


def test_silent_clients_are_bounded_and_cost_others_nothing(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(daemon.connect("few"))
        with connect(daemon, "echo") as sock:
            says(sock, b"word")
        assert daemon.service("few")["accepted"] <= 3
        assert daemon.differences() == []
    with connect(daemon, "few") as sock:  # those before it have gone
        says(sock, b"word")


def test_a_silent_client_is_refused_when_its_time_is_over(daemon: Daemon) -> None:
    with daemon.connect("impatient") as sock:
        remote = "{}:{}".format(*sock.getsockname())
        assert receive_until_gone(sock) == b""
    event = daemon.wait_event("connection_refused", reason="tls_failed", remote=remote)
    assert event["detail"] == "no handshake within 1s"


def test_a_flood_of_hellos_is_refused_one_by_one_and_others_are_served(daemon: Daemon) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing, server_hostname="mail.example.org").do_handshake()
    hello = outgoing.read()
    with connect(daemon, "echo") as established, contextlib.ExitStack() as stack:
        says(established, b"word")
        for _ in range(50):
            stack.enter_context(daemon.connect("impatient")).sendall(hello)
            says(established, b"word")
        with connect(daemon, "echo") as sock:
            says(sock, b"word")
        stack.close()
    daemon.wait_event("connections_refused", service="impatient")


# Deaths, reloads, upgrades, the end


AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may look into a process that is not dumpable"
)


def served_by(daemon: Daemon, sock: ssl.SSLSocket) -> int:
    """Return the TLS process that has a client's connection: it has the socket with the other port."""
    port = sock.getsockname()[1]
    found = {pid for pid in tls_pids(daemon) if port in ports(pid)}
    (pid,) = found
    return pid


def ports(pid: int) -> set[int]:
    """Return the remote ports of a process's TCP connections."""
    inodes = {os.readlink(entry)[8:-1] for entry in Path(f"/proc/{pid}/fd").iterdir()
              if os.readlink(entry).startswith("socket:")}  # fmt: skip
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(line[2].rpartition(":")[2], 16) for line in lines if line[9] in inodes}


@AS_ROOT
def test_a_tls_process_that_dies_takes_its_own_sessions_and_no_others() -> None:
    with secure_daemon() as daemon, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(daemon, "echo")) for _ in range(6)]
        asking = stack.enter_context(starttls(daemon))
        plain = stack.enter_context(daemon.connect("plain"))
        for sock in (*socks, plain):
            says(sock, b"word")
        owners = {sock: served_by(daemon, sock) for sock in (*socks, asking)}
        victim = owners[socks[0]]
        os.kill(victim, signal.SIGKILL)
        daemon.wait_event("process_died", role="tls", pid=victim)
        lost = [sock for sock, owner in owners.items() if owner == victim]
        for sock in lost:
            with contextlib.suppress(OSError):
                assert sock.recv(1) == b""
        for sock in {*socks, plain} - {*lost}:
            says(sock, b"still")
        daemon.wait_events(len([s for s in lost if s is not asking]), "connection_served", service="echo")
        for _ in range(4):
            with connect(daemon, "echo") as sock:
                says(sock, b"word")
        assert daemon.differences() == []


@pytest.mark.parametrize("change", ["kill", "reload", pytest.param("upgrade", marks=AS_ROOT)])
def test_sessions_go_on_whatever_becomes_of_the_loop(change: str) -> None:
    with secure_daemon() as daemon:
        with connect(daemon, "echo") as sock, starttls(daemon) as asking, daemon.connect("few") as silent:
            says(sock, b"before")
            before = tls_pids(daemon)
            if change == "kill":
                os.kill(daemon.processes("loop")[0]["pid"], signal.SIGKILL)
                daemon.wait_event("process_died", role="loop")
                daemon.wait_events(2, "loop_started")
                assert receive_until_gone(silent) == b""
            elif change == "reload":
                # Another user would be another process; another name of a certificate is not.
                daemon.reload({"services": services() | {"more": services()["echo"]}})
            else:
                client.call(daemon.control, "upgrade", {}, TIMEOUT)
                daemon.wait_event("upgraded")
                assert {served_by(daemon, sock), served_by(daemon, asking)} <= {*before}
            says(sock, b"after")
            asking.sendall(b"after")
            assert asking.recv(100) == b"AFTER"
            with connect(daemon, "echo") as new:
                says(new, b"word")
            assert daemon.differences() == []
            with contextlib.closing(sock.unwrap()) as rest:
                assert rest.recv(1) == b""
        if change == "upgrade":
            for pid in before:
                wait_gone(pid)


def test_at_a_stop_sessions_have_their_time() -> None:
    with secure_daemon() as daemon:
        sock = connect(daemon, "echo")
        says(sock, b"word")
        with contextlib.closing(sock):
            daemon.signal(signal.SIGTERM)
            says(sock, b"still")
            with contextlib.closing(sock.unwrap()) as rest:
                assert rest.recv(1) == b""
        assert daemon.wait() == 0
        daemon.start()  # for what is checked at the end


def test_a_reload_to_certificates_that_cannot_be_used_changes_nothing() -> None:
    with secure_daemon() as daemon, connect(daemon, "echo") as sock:
        says(sock, b"word")
        (daemon.folder / "bad.pem").write_text("nonsense")
        with pytest.raises(Exception, match=r"bad\.pem"):
            daemon.reload({"tls": {"certificates": "bad.pem"}})
        says(sock, b"word")
        with connect(daemon, "echo") as new:
            says(new, b"word")
        daemon.write({"tls": {"certificates": "mail.pem"}})


# Keys, and who holds them

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give privileges away")
UID = 64013


@root
def test_tls_processes_run_as_their_own_user_confined() -> None:
    own = {"certificates": "mail.pem", "user": "daemon"}
    with secure_daemon(tls=own, user="nobody") as daemon, connect(daemon, "echo") as sock:
        says(sock, b"word")
        (loop,) = daemon.children("ucspid: loop")
        owners = {pid: Path(f"/proc/{pid}/environ").stat().st_uid for pid in tls_pids(daemon)}
        assert owners
        assert set(owners.values()) == {0}  # not dumpable: proc(5)
        for pid in tls_pids(daemon):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            fields = {key: value.split() for key, value in (line.split(":", 1) for line in lines)}
            assert set(fields["Uid"]) == {"1"}
            assert (fields["NoNewPrivs"], fields["Seccomp"]) == (["1"], ["2"])
            assert {*fields["CapPrm"], *fields["CapEff"], *fields["CapInh"]} == {"0" * 16}
        assert loop


def patterns() -> tuple[bytes, ...]:
    """Return what a process has in memory that has had the key: as in its file, and as OpenSSL has it."""
    path = certificates.shared() / "mail.example.org.key"
    text = certificates.openssl(path.parent, "ec", "-in", path.name, "-text", "-noout").decode()
    number = bytes.fromhex("".join(text.partition("priv:")[2].partition("pub:")[0].split()).replace(":", ""))
    return path.read_bytes().splitlines()[1], number[-32:], number[-32:][::-1]


@root
def test_neither_the_loop_nor_a_program_has_a_key_in_memory() -> None:
    key = patterns()
    own = {"certificates": "mail.pem", "user": "daemon"}
    with secure_daemon(tls=own, user="nobody") as daemon, connect(daemon, "echo") as sock:
        says(sock, b"word")
        below = [daemon.pid, *daemon.processes_left()]
        holding = set()
        for pid in below:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a reader that has done
                holding |= {name_of(pid)} if has(pid, key) else set()
        assert holding == {"ucspid: tls"}


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def has(pid: int, texts: tuple[bytes, ...]) -> bool:
    """Say whether a process has one of the texts in memory that can be written."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            first, last = (int(each, 16) for each in place.split("-"))
            memory.seek(first)
            with contextlib.suppress(OSError):
                content = memory.read(last - first)
                if any(text in content for text in texts):
                    return True
    return False
