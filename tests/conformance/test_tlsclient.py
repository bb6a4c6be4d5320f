"""tlsclient: whom it trusts, what the program has, data and ends both ways, and servers of others."""

import contextlib
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import certificates
import peers
import tls_servers
from free_ports import free_port
from private_network import answering, serving_clients
from tls_servers import CLIENT, NAME, TlsServer, authority, context, echo, tls_server
from tool_programs import TIMEOUT, Ended, Tools, connection_variables, environment_of

QUICK = "-RHl0"
"""No lookups."""
LARGE = bytes(range(256)) * 40000
BOTH_WAYS = ("sh", "-c", f"exec 5<&0; cat <&5 >&7 & head -c {len(LARGE)} <&6; wait")
"""A program that sends its input while it reads what comes back."""


def trusting(*more: str) -> list[str]:
    """Return options with which the tests' certificates are good."""
    return [QUICK, "-a", authority(), "-k", NAME, *more]


def run(
    ours: Tools, server: TlsServer, *program: str, options: list[str] | None = None, **more: str
) -> Ended:
    chosen = trusting() if options is None else options
    return ours.run("tlsclient", *chosen, "127.0.0.1", server.port, *program, **more)  # type: ignore[arg-type]


def failed(server: TlsServer, why: str) -> list[str]:
    return [f"tlsclient: fatal: unable to start TLS with 127.0.0.1 port {server.port}: {why}"]


@contextlib.contextmanager
def s_server(*options: str) -> Iterator[str]:
    """Have OpenSSL's own server serve one client; yield its port."""
    port = str(free_port())
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", *options]
    made = [*command, "-cert", str(certificates.shared() / f"{NAME}.pem")]
    with subprocess.Popen(made, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            while b"ACCEPT" not in server.stdout.readline():
                assert server.poll() is None
            yield port
            server.communicate(timeout=TIMEOUT)
        finally:
            server.kill()


def python(script: str) -> list[str]:
    """Return a program that has both as the sockets s6 and s7."""
    head = "import os, socket, sys; s6, s7 = socket.socket(fileno=6), socket.socket(fileno=7)"
    return [sys.executable, "-ISc", f"{head}\n{script}"]


# whom it trusts


def test_a_server_that_is_whom_it_should_be(ours: Tools) -> None:
    with tls_server(echo) as server:
        ended = run(ours, server, "sh", "-c", "echo hello >&7; head -n 1 <&6")
    assert (ended.code, ended.out, ended.err) == (0, b"hello\n", b"")


WRONG = {
    "expired": "certificate has expired",
    "unknown authority": "unable to get local issuer certificate",
    "self-signed": "self-signed certificate",
    "other.example.org": f"hostname mismatch, certificate is not valid for '{NAME}'",
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_is_not_is_sent_nothing(ours: Tools, kind: str, version: ssl.TLSVersion) -> None:
    with tls_server(echo, context(kind, version=version)) as server:
        ended = run(ours, server, "sh", "-c", "echo run; echo secret >&7")
        assert (ended.code, ended.out, ended.lines) == (98, b"", failed(server, WRONG[kind]))
        unverified = run(ours, server, "sh", "-c", "echo a >&7; head -n 1 <&6", options=[QUICK, "-n"])
        assert (unverified.code, unverified.out) == (0, b"a\n")
        assert unverified.lines == ["tlsclient: warning: the server is not verified (-n)"]
        quiet = run(ours, server, "true", options=[QUICK, "-nq"])
        assert (quiet.code, quiet.err) == (0, b"")


def test_the_authorities_are_the_systems_and_the_name_is_the_hosts(ours: Tools) -> None:
    """OpenSSL reads SSL_CERT_FILE in place of the system's file."""
    with tls_server(echo, context("addresses")) as server:
        ended = run(ours, server, "true", options=[QUICK])
        assert (ended.code, ended.lines) == (98, failed(server, "unable to get local issuer certificate"))
        trusted = {"SSL_CERT_FILE": authority()}
        for host in ("127.0.0.1", "", "0", "[127.0.0.1]", "383.0.0.1"):
            assert ours.run("tlsclient", QUICK, host, server.port, "true", env=trusted).code == 0, host
        ended = ours.run("tlsclient", QUICK, "-k", NAME, "0", server.port, "true", env=trusted)
        assert (ended.code, ended.lines) == (98, failed(server, WRONG["other.example.org"]))
        ended = ours.run("tlsclient", "-q", QUICK, "-k", NAME, "0", server.port, "true", env=trusted)
        assert (ended.code, ended.err) == (98, b"")


def test_an_address_of_ipv6(ours: Tools) -> None:
    with tls_server(echo, context("addresses"), "::1") as server:
        ended = ours.run("tlsclient", QUICK, "-a", authority(), "::1", server.port, "env", "-0")
    variables = environment_of(ended)
    assert (ended.code, variables["PROTO"], variables["TCP6REMOTEIP"]) == (0, "TCP6", "::1")


def test_a_folder_of_authorities(ours: Tools, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(Path(authority()).read_bytes())
    options = [QUICK, "-k", NAME, "-A", str(tmp_path)]
    with tls_server(echo) as server:
        assert run(ours, server, "true", options=options).code == 98, "it has no names by hash"
        certificates.openssl(tmp_path, "rehash", ".")
        assert run(ours, server, "true", options=options).code == 0


def test_a_certificate_of_its_own(ours: Tools) -> None:
    """With TLS 1.3, a server refuses a client that has none when the client is already done."""
    folder = certificates.shared()
    own = ["-c", str(folder / f"{CLIENT}.crt"), "-K", str(folder / f"{CLIENT}.key")]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        demanding = context(version=version)
        demanding.verify_mode = ssl.CERT_REQUIRED
        demanding.load_verify_locations(authority())
        with tls_server(
            lambda client: client.sendall(repr(client.getpeercert()).encode()), demanding
        ) as server:
            for words in (own, ["-c", str(folder / f"{CLIENT}.pem")]):
                ended = run(ours, server, "sh", "-c", "cat <&6", options=trusting(*words))
                assert CLIENT.encode() in ended.out
            refused = run(ours, server, "sh", "-c", "echo run; cat <&6")
        if version is ssl.TLSVersion.TLSv1_2:
            assert (refused.code, refused.out) == (98, b"")
        else:
            assert (refused.code, refused.out) == (0, b"run\n")
            assert refused.lines[0].endswith("broken: tlsv13 alert certificate required")


@pytest.fixture
def encrypted(tmp_path: Path) -> str:
    words = ("-aes256", "-passout", "pass:x", "-out", str(tmp_path / "encrypted.key"))
    certificates.openssl(certificates.shared(), "ec", "-in", f"{CLIENT}.key", *words)
    return str(tmp_path / "encrypted.key")


def test_files_that_cannot_be_used(ours: Tools, encrypted: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    mine, other = (str(certificates.shared() / f"{name}.pem") for name in (CLIENT, NAME))
    with tls_server(echo) as server:
        for options, path, why in (
            (["-a", "/nowhere"], "/nowhere", "file does not exist"),
            (["-a", "/etc/passwd"], "/etc/passwd", "no certificate or crl found"),
            (["-A", "/nowhere"], "/nowhere", "file does not exist"),
            (["-A", "/etc/passwd"], "/etc/passwd", "not a directory"),
            (["-c", "/nowhere"], "/nowhere", "file does not exist"),
            (["-c", mine, "-K", "/nowhere"], "/nowhere", "file does not exist"),
            (["-c", mine, "-K", other], mine, "key values mismatch"),
            (["-c", mine, "-K", encrypted], encrypted, "the key has a password"),
        ):
            ended = run(ours, server, "true", options=[QUICK, *options])
            line = f"tlsclient: fatal: unable to use {path}: {why}"
            assert (ended.code, ended.lines) == (96, [line]), options
    assert server.ends == [], "it was not connected to"


# the command line


@pytest.mark.parametrize(
    "words", [[], ["host", "25"], ["-K", "/x", "host", "25", "true"], ["-i", "x", "h", "1", "t"]]
)
def test_usage(ours: Tools, words: list[str]) -> None:
    ended = ours.run("tlsclient", *words)
    assert (ended.code, ended.out) == (100, b"")
    assert ended.lines[0].startswith("tlsclient: usage: tlsclient [ -46dDhHnqQrRv ] [ -a cafile ]")


@pytest.mark.parametrize("name", ["", ".x", "a..b", "x" * 64, "\xe9"])
def test_what_cannot_be_a_name(ours: Tools, name: str) -> None:
    with tls_server(echo) as server:
        ended = run(ours, server, "true", options=[*trusting(), "-k", name])
    line = f"tlsclient: fatal: not the name of a server: {name}".encode()
    assert (ended.code, ended.err.rstrip(b"\n")) == (100, line)


def test_nobody_answers(ours: Tools) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = str(bound.getsockname()[1])
        ended = ours.run("tlsclient", QUICK, "127.0.0.1", port, "true")
    line = f"tlsclient: unable to connect to 127.0.0.1 port {port}: connection refused"
    assert (ended.code, ended.lines) == (111, [line])
    ended = ours.run("tlsclient", QUICK, "127.0.0.1", "nosuchport", "true")
    assert ended.lines == ["tlsclient: fatal: unable to figure out port number for nosuchport"]


def test_it_says_what_was_agreed(ours: Tools) -> None:
    with tls_server(echo) as server:
        ended = run(ours, server, "true", options=trusting("-v"))
    connected = f"tlsclient: connected to 127.0.0.1 port {server.port}"
    assert ended.lines == [connected, "tlsclient: TLSv1.3 TLS_AES_256_GCM_SHA384"]


# the handshake


def refuse(client: socket.socket) -> None:
    """Say that no version of TLS is common to both."""
    client.recv(65536)
    client.sendall(bytes([21, 3, 1, 0, 2, 2, 70]))


def hang_up(client: socket.socket) -> None:
    """End the connection after what a client says first."""
    client.recv(65536)


@pytest.mark.parametrize(
    ("talk", "code", "why"),
    [
        (answering(b"220 mail.example.org ESMTP\r\n", close=False), 98, "wrong version number"),
        (refuse, 98, "tlsv1 alert protocol version"),
        (hang_up, 111, "the connection ended in the handshake"),
    ],
)
def test_a_server_that_does_not_shake_hands(
    ours: Tools, talk: Callable[[socket.socket], None], code: int, why: str
) -> None:
    with serving_clients(socket.create_server(("127.0.0.1", 0)), talk) as port:
        ended = ours.run("tlsclient", *trusting(), "127.0.0.1", str(port), "echo", "run")
    line = f"tlsclient: fatal: unable to start TLS with 127.0.0.1 port {port}: {why}"
    assert (ended.code, ended.out, ended.lines) == (code, b"", [line])


def test_a_server_that_says_nothing(ours: Tools) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = ours.run("tlsclient", *trusting("-w", "1"), "127.0.0.1", str(port), "echo", "run")
    line = f"tlsclient: fatal: unable to start TLS with 127.0.0.1 port {port}: timed out"
    assert (ended.code, ended.out, ended.lines) == (111, b"", [line])


# what the program has


def test_the_environment(ours: Tools) -> None:
    with tls_server(echo) as server:
        stale = {"SSL_PEER_CERT_HASH": "x", "TCPREMOTEINFO": "x", "OTHER": "kept"}
        ended = ours.run("tlsclient", *trusting(), "127.0.0.1", server.port, "env", "-0", env=stale)
        unverified = ours.run(
            "tlsclient", QUICK, "-n", "0", server.port, "env", "-0", env={"SSL_TLS_SNI_SERVERNAME": "x"}
        )
    variables = environment_of(ended)
    encoded = ssl.PEM_cert_to_DER_cert((certificates.shared() / f"{NAME}.crt").read_text())
    secured = {
        "SSL_PROTOCOL": "TLSv1.3",
        "SSL_CIPHER": "TLS_AES_256_GCM_SHA384",
        "SSL_TLS_SNI_SERVERNAME": NAME,
        "SSL_PEER_CERT_HASH": f"SHA256:{hashlib.sha256(encoded).hexdigest()}",
        "SSL_PEER_CERT_SUBJECT": f"/CN={NAME}",
    }
    assert {name: value for name, value in variables.items() if name.startswith("SSL_")} == secured
    assert variables["OTHER"] == "kept"
    connection = connection_variables(ended)
    assert connection.pop("TCPLOCALPORT").isdigit()
    assert connection == {
        "PROTO": "TCP",
        "TCPLOCALHOST": "0",
        "TCPLOCALIP": "127.0.0.1",
        "TCPREMOTEIP": "127.0.0.1",
        "TCPREMOTEPORT": server.port,
    }
    names = {name for name in environment_of(unverified) if name.startswith("SSL_")}
    assert names == {"SSL_PROTOCOL", "SSL_CIPHER", "SSL_PEER_CERT_HASH"}


def test_the_descriptors(ours: Tools) -> None:
    with tls_server(echo) as server:
        ended = run(ours, server, "sh", "-c", "ls /proc/$$/fd; grep flags /proc/$$/fdinfo/6")
        numbers, flags = ended.out.split()[:-2], int(ended.out.split()[-1], 8)
        assert (numbers, flags & os.O_NONBLOCK) == ([b"0", b"1", b"2", b"6", b"7"], 0)
        words = f"-RHl0 -a {authority()} -k {NAME} 127.0.0.1 {server.port}"
        script = f"exec {ours.folder}/tlsclient {words} ls -x /proc/self/fd <&- >&2"
        ended = ours.shell(script)
        assert ended.err.split() == [b"0", b"1", b"2", b"6", b"7"], "ls opens 0"
        script = f"{ours.folder}/tlsclient {words} sh -c 'echo a >&7; head -n 1 <&6' <&- 2>&-"
        assert ours.shell(script).out == b"a\n"


def test_the_program_has_the_process_and_its_exit_status(ours: Tools) -> None:
    with tls_server(echo) as server:
        ended = run(ours, server, "sh", "-c", "echo $$; exit 77")
        assert (ended.code, ended.out.strip()) == (77, b"%d" % ended.pid)
        assert run(ours, server, "sh", "-c", "kill -9 $$").code == -signal.SIGKILL
        ended = run(ours, server, "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
        assert {line.split()[1] for line in ended.out.decode().splitlines()} == {"0" * 16}
        ended = run(ours, server, "nowhere")
        line = "tlsclient: fatal: unable to run nowhere: file does not exist"
        assert (ended.code, ended.lines) == (111, [line])


# data and ends


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_much_both_ways_at_once(ours: Tools, version: ssl.TLSVersion) -> None:
    with tls_server(echo, context(version=version)) as server:
        ended = ours.run("tlsclient", *trusting(), "127.0.0.1", server.port, *BOTH_WAYS, given=LARGE)
    assert (ended.code, ended.out == LARGE, ended.err) == (0, True, b"")


def test_the_program_may_end_its_data_first_and_go_on_reading(ours: Tools) -> None:
    heard: list[bytes] = []

    def answer(client: ssl.SSLSocket) -> None:
        heard.append(b"".join(iter(lambda: client.recv(65536), b"")))
        client.sendall(LARGE)
        client.unwrap()

    script = """
s7.sendall(b"asked" * 100000)
s7.shutdown(socket.SHUT_WR)
while data := s6.recv(65536):
    sys.stdout.buffer.write(data)
"""
    with tls_server(answer) as server:
        ended = run(ours, server, *python(script))
    assert (ended.code, ended.out == LARGE, ended.err) == (0, True, b"")
    assert heard == [b"asked" * 100000]


def test_the_server_may_end_its_data_first_and_go_on_reading(ours: Tools) -> None:
    heard: list[bytes] = []

    def ask(client: ssl.SSLSocket) -> None:
        client.sendall(b"asked")
        plain = client.unwrap()  # returns when the client has ended its data too
        heard.append(plain.recv(1))

    with tls_server(ask) as server:
        ended = run(ours, server, "sh", "-c", "cat <&6")
    assert (ended.code, ended.out, ended.err) == (0, b"asked", b"")
    assert (heard, server.ends) == ([b""], [""])


def test_what_a_program_sends_last_arrives_and_ends_as_it_should(ours: Tools) -> None:
    heard: list[bytes] = []

    def hear(client: ssl.SSLSocket) -> None:
        client.sendall(b"unread" * 1000)
        heard.append(b"".join(iter(lambda: client.recv(65536), b"")))

    with tls_server(hear) as server:
        ended = ours.run(
            "tlsclient", *trusting(), "127.0.0.1", server.port, "sh", "-c", "exec cat >&7", given=LARGE
        )
    assert (ended.code, ended.err) == (0, b"")
    assert (heard == [LARGE], server.ends) == (True, [""])


def test_a_server_that_breaks_off(ours: Tools) -> None:
    def cut(client: ssl.SSLSocket) -> None:
        client.sendall(b"part")
        client.recv(1)

    with tls_server(cut) as server:
        program = ("sh", "-c", "head -c 4 <&6; echo >&7; cat <&6; exit 5")
        ended = run(ours, server, *program)
        broken = f"tlsclient: warning: connection to 127.0.0.1 port {server.port} broken: "
        missing = "it ended without close_notify, so something may be missing"
        assert (ended.code, ended.out, ended.lines) == (5, b"part", [broken + missing])
        assert run(ours, server, *program, options=trusting("-q")).err == b""

    def reset(client: ssl.SSLSocket) -> None:
        cut(client)
        tls_servers.reset(client)

    with tls_server(reset) as server:
        ended = run(ours, server, *program)
        broken = f"tlsclient: warning: connection to 127.0.0.1 port {server.port} broken: "
        assert (ended.code, ended.out, ended.lines) == (5, b"part", [f"{broken}Connection reset by peer"])


def test_a_server_that_goes_on_when_the_program_is_gone_is_cut_off(ours: Tools) -> None:
    def babble(client: ssl.SSLSocket) -> None:
        client.sendall(LARGE)
        client.sendall(LARGE)

    with tls_server(babble) as server:
        ended = run(ours, server, "sh", "-c", "head -c 3 <&6", options=trusting())
        assert (ended.code, ended.out) == (0, LARGE[:3])
    assert server.ends != [""]


def test_nothing_of_the_client_is_kept_from_who_waits_for_its_output(ours: Tools) -> None:
    """The server does not end; what is left of the client has neither its input nor its output."""
    over = threading.Event()

    def wait(_client: ssl.SSLSocket) -> None:
        over.wait(TIMEOUT)

    with tls_server(wait) as server:
        words = (*trusting(), "127.0.0.1", server.port, "echo", "a")
        with ours.start("tlsclient", *words, stderr=subprocess.DEVNULL) as process:
            assert process.communicate(timeout=TIMEOUT)[0] == b"a\n"
        assert not over.is_set()
        over.set()


# servers of others


def test_openssl_s_server(ours: Tools) -> None:
    with s_server("-rev") as port:
        program = ("sh", "-c", "echo abc >&7; head -n 1 <&6; echo CLOSE >&7")
        ended = ours.run("tlsclient", *trusting(), "127.0.0.1", port, *program)
    assert (ended.code, ended.out, ended.err) == (0, b"cba\n", b"")


def test_stunnel(ours: Tools, tmp_path: Path) -> None:
    stunnel = peers.require("stunnel4")
    port = free_port()
    with serving_clients(socket.create_server(("127.0.0.1", 0)), _echo_plainly) as behind:
        (tmp_path / "stunnel.conf").write_text(
            f"foreground = yes\npid =\n[it]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{behind}\n"
            f"cert = {certificates.shared() / f'{NAME}.pem'}\n"
        )
        with subprocess.Popen([stunnel, tmp_path / "stunnel.conf"], stderr=subprocess.PIPE) as server:
            assert server.stderr is not None
            try:
                while b"Configuration successful" not in server.stderr.readline():
                    assert server.poll() is None
                ended = ours.run("tlsclient", *trusting(), "127.0.0.1", str(port), *BOTH_WAYS, given=LARGE)
            finally:
                server.terminate()
                server.communicate(timeout=TIMEOUT)
    assert (ended.code, ended.out == LARGE, ended.err) == (0, True, b"")


def _echo_plainly(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)
