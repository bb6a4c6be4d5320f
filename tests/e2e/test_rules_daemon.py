"""Access rules in the daemon: verdicts and environments as tcpserver -x gives them, and what is beyond."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import peers
from daemon import TIMEOUT, receive_all, running
from folders import public_folder

CLIENTS = ["127.0.0.1", "127.0.0.2", "127.0.1.1", "127.1.2.3", "127.200.1.7"]

RULES = """\
# A comment
127.0.0.2:deny
127.0.1.:allow,RELAYCLIENT="",DATABYTES="1000000"
127.1.2.1-5:allow,RULE=/range/,TCPREMOTEHOST="from.the.rule"
127.2.:deny
127.200.:allow,A="1",A="2",EMPTY=""
:allow,RULE="default"
"""


@contextlib.contextmanager
def tcpserver(folder: Path, rules: str) -> Iterator[int]:
    """Run Debian's tcpserver with these rules on env; yield its port."""
    text, cdb = folder / "theirs", folder / "theirs.cdb"
    text.write_text(rules)
    with text.open("rb") as file:
        subprocess.run([peers.require("tcprules"), cdb, folder / "theirs.tmp"], stdin=file, check=True)
    command = [peers.require("tcpserver"), "-1HRl0", "-x", str(cdb), "127.0.0.1", "0", "env"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": os.defpath})
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def variables(port: int, source: str) -> list[str] | None:
    """Return what the rules set for a client from this address, or None if it is sent away."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT, source_address=(source, 0)) as sock:
        reported = receive_all(sock).decode()
    if not reported:
        return None
    kept = [line for line in reported.splitlines() if line.partition("=")[0] not in CONNECTIONS_OWN]
    return sorted(kept)


CONNECTIONS_OWN = {
    "PATH",
    "TCPLOCALPORT",
    "TCPREMOTEPORT",
    "UCSPID_CONN_ID",
    "TCPLOCALHOST",
    "PWD",
    "SHLVL",
    "_",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


@pytest.mark.parametrize("kind", ["text", "cdb"])
def test_a_tcprules_file_means_what_it_means_to_tcpserver(folder: Path, kind: str) -> None:
    file = folder / ("rules.cdb" if kind == "cdb" else "rules")
    if kind == "text":
        file.write_text(RULES)
    with tcpserver(folder, RULES) as port:
        if kind == "cdb":
            file.write_bytes((folder / "theirs.cdb").read_bytes())
        theirs = {client: variables(port, client) for client in CLIENTS}
    config = {"services": {"env": {"listen": "127.0.0.1:0", "program": ["env"], "rules": str(file)}}}
    with running(folder, config) as daemon:
        port = daemon.address("env")[1]
        ours = {client: variables(port, client) for client in CLIENTS}
        assert daemon.service("env")["refused"] == {"denied": 1}
    assert ours == theirs
    assert theirs["127.0.0.2"] is None
    assert "RELAYCLIENT=" in (theirs["127.0.1.1"] or [])


def test_rules_in_the_file_deny_with_a_message_and_set_limits_and_variables(folder: Path) -> None:
    rules = [
        {"from": "127.0.0.2", "deny": None, "message": "553 not you\r\n"},
        {"from": "127.0.0.3", "allow": None, "max_per_ip": 2, "message": "421 two are enough\r\n"},
        {"from": "127.0.0.0/8", "allow": None, "env": {"WHO": "neighbour", "PROTO": "MINE"}},
    ]
    service = {"listen": "127.0.0.1:0", "program": ["sh", "-c", "env; cat"], "max_per_ip": 1, "rules": rules}
    with running(folder, {"services": {"s": service}}) as daemon:
        assert daemon.talk("s", b"", "127.0.0.2") == b"553 not you\r\n"
        reported = daemon.talk("s", b"", "127.0.0.1").decode().splitlines()
        assert {"WHO=neighbour", "PROTO=MINE"} <= set(reported)
        with daemon.connect("s", "127.0.0.3") as first, daemon.connect("s", "127.0.0.3") as second:
            assert first.recv(1)
            assert second.recv(1)
            assert daemon.talk("s", b"", "127.0.0.3") == b"421 two are enough\r\n"
        assert daemon.service("s")["refused"] == {"denied": 1, "per_ip": 1}


def test_the_default_is_for_clients_that_no_rule_matches(folder: Path) -> None:
    file = folder / "rules"
    file.write_text("127.0.0.2:allow\n")
    service = {
        "listen": "127.0.0.1:0",
        "program": ["echo", "in"],
        "rules": str(file),
        "default_action": "deny",
    }
    with running(folder, {"services": {"s": service}}) as daemon:
        assert daemon.talk("s", b"", "127.0.0.2") == b"in\n"
        assert daemon.talk("s", b"", "127.0.0.1") == b""


def change(file: Path, text: str) -> None:
    """Put another rules file in place of the one there, as editors do."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def test_a_change_is_in_force_for_the_next_connection_and_a_broken_file_is_not(folder: Path) -> None:
    file = folder / "rules"
    file.write_text(':allow,WHO="one"\n')
    config = {
        "services": {"s": {"listen": "127.0.0.1:0", "program": ["printenv", "WHO"], "rules": str(file)}}
    }
    with running(folder, config) as daemon:
        assert daemon.talk("s") == b"one\n"
        change(file, ':allow,WHO="two"\n')
        assert daemon.talk("s") == b"two\n"
        change(file, ':allow,WHO="three"\n:what\n127.0.0.1:deny,\n')
        assert daemon.talk("s") == b"two\n"
        assert f"{file}:3" in daemon.wait_event("rules_load_failed", path=str(file))["reason"]
        change(file, ":deny\n")
        assert daemon.talk("s") == b""
        assert daemon.service("s")["refused"] == {"denied": 1}


def tcprules(cdb: Path, text: str) -> None:
    """Compile rules in place of those there, as Debian's tcprules does it."""
    temporary = cdb.with_suffix(".tmp")
    subprocess.run([peers.require("tcprules"), cdb, temporary], input=text.encode(), check=True)


def test_pop_before_smtp_50_of_50_clients_are_judged_by_the_file_that_was_just_compiled(folder: Path) -> None:
    cdb = folder / "smtp.cdb"
    tcprules(cdb, ':deny,RELAYCLIENT=""\n')
    service = {"listen": "127.0.0.1:0", "program": ["printenv", "RELAYCLIENT"], "rules": str(cdb)}
    with running(folder, {"services": {"smtp": service}}) as daemon:
        address = daemon.address("smtp")
        for number in range(50):
            tcprules(cdb, f'127.0.0.1:allow,RELAYCLIENT="{number}"\n:deny\n')
            with socket.create_connection(address, TIMEOUT) as client:
                assert receive_all(client) == b"%d\n" % number
            tcprules(cdb, '127.0.0.1:deny\n:allow,RELAYCLIENT="everybody"\n')
            with socket.create_connection(address, TIMEOUT) as client:
                assert receive_all(client) == b""
        assert daemon.service("smtp")["refused"] == {"denied": 50}


SHOW = ["sh", "-c", "echo $NEW"]


def test_new_variables_are_there_for_the_next_connection_and_nothing_is_reloaded(folder: Path) -> None:
    file = folder / "rules"
    file.write_text(":allow\n")
    config = {"services": {"s": {"listen": "127.0.0.1:0", "program": SHOW, "rules": str(file)}}}
    with running(folder, config) as daemon:
        assert daemon.talk("s") == b"\n"
        change(file, ':allow,NEW="there"\n')
        assert daemon.talk("s") == b"there\n"
        assert daemon.status()["generation"] == 1
        os.kill(daemon.processes("loop")[0]["pid"], signal.SIGKILL)
        daemon.wait_events(2, "loop_started")
        assert daemon.talk("s") == b"there\n"
        os.kill(daemon.processes("launcher")[0]["pid"], signal.SIGKILL)
        daemon.wait_event("process_died", role="launcher")
        assert daemon.talk("s") == b"there\n"
        assert daemon.reload() == []
        assert daemon.talk("s") == b"there\n"


def test_a_half_edited_configuration_file_keeps_no_rule_from_force(folder: Path) -> None:
    file = folder / "rules"
    file.write_text(":allow\n")
    config = {"services": {"s": {"listen": "127.0.0.1:0", "program": SHOW, "rules": str(file)}}}
    with running(folder, config) as daemon:
        assert daemon.talk("s") == b"\n"
        daemon.replace("services:\n  s:\n    lis")
        change(file, '127.0.0.2:deny\n:allow,NEW="there"\n')
        assert daemon.talk("s", source="127.0.0.2") == b""
        assert daemon.talk("s") == b"there\n"
        assert not [event for event in daemon.events if event["event"] in ("reload_failed", "reloaded")]
        daemon.write()


def test_a_new_variable_that_cannot_be_allowed_keeps_out_its_clients_only_and_the_status_says_why(
    folder: Path,
) -> None:
    file = folder / "rules"
    file.write_text(":allow\n")
    service = {"listen": "127.0.0.1:0", "program": SHOW, "rules": str(file), "env": {"BIG": "x" * 90_000}}
    with running(folder, {"services": {"s": service}}) as daemon:
        assert daemon.talk("s") == b"\n"
        names = ",".join(f'{number:0100}="x"' for number in range(100))
        change(file, f"127.0.0.2:deny\n127.0.0.3:allow,{names}\n:allow\n")
        assert daemon.talk("s", source="127.0.0.3") == b""
        assert daemon.talk("s", source="127.0.0.2") == b""
        assert daemon.talk("s") == b"\n"
        assert daemon.service("s")["refused"] == {"no_rules": 1, "denied": 1}
        (status,) = daemon.status()["rules_files"]
        assert (status["path"], status["services"]) == (str(file), ["s"])
        assert "at most 98304 are allowed" in status["problem"]
        assert status["age"] is None
        assert daemon.wait_event("rules_load_failed")["reason"] == status["problem"]
        new = file.with_name("new")
        new.write_text(":allow\n")
        os.utime(new, (1000, 1000))
        new.replace(file)
        assert daemon.talk("s", source="127.0.0.3") == b"\n"
        (status,) = daemon.status()["rules_files"]
        assert status["problem"] is None
        assert time.time() - 999 > status["age"] > 1e9  # it is rounded
