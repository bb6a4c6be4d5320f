"""The filter in contrib/fail2ban, with Debian's fail2ban: refused clients are found in every format."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from peers import UNPACKED, require
from ucspid.observe.journal import Journal
from ucspid.observe.log import configure
from ucspid.observe.transcript import LoggedEnds
from ucspid.policy.client_facts import NO_FACTS, ClientFacts

FAIL2BAN = require("fail2ban-regex")
FILTER = Path(__file__).parents[2] / "contrib/fail2ban/filter.d/ucspid.conf"
REFUSED = {"192.0.2.7": "denied", "2001:db8::7": "per_ip", "192.0.2.8": "rate_per_ip"}
OTHERS = {"198.51.100.1": "full", "198.51.100.2": "timed_out"}
PRETENDS = "connection_refused service=smtp remote=203.0.113.9:1 reason=denied"
"""What a program may say that a client has made it say."""


def remote(ip: str) -> str:
    return f"[{ip}]:40312" if ":" in ip else f"{ip}:40312"


def fields() -> list[dict[str, Any]]:
    """Return events: of clients that are refused, and that are not to be banned."""
    refused = [
        {"event": "connection_refused", "service": "smtp", "remote": remote(ip), "reason": reason}
        for ip, reason in (REFUSED | OTHERS).items()
    ]
    served = {"event": "connection_served", "service": "smtp", "remote": "198.51.100.3:1", "status": 0}
    said = {"event": "program_stderr", "service": "smtp", "line": PRETENDS}
    return [*refused, served, said]


def found(lines: bytes, folder: Path) -> list[str]:
    """Return the addresses that fail2ban finds in lines."""
    log = folder / "log"
    log.write_bytes(lines)
    ended = subprocess.run(
        [FAIL2BAN, "--out", "ip", str(log), str(FILTER)],
        env=os.environ | {"PYTHONPATH": str(UNPACKED.parent / "lib/python3/dist-packages")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stderr
    return sorted(ended.stdout.split())


@pytest.mark.parametrize("form", ["json", "console", "logfmt"])
def test_refused_clients_are_found_in_lines(form: Any, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    log = configure(writing, form, "info")
    for event in fields():
        log.logger.info(**event)
    assert log.close(20)
    os.close(writing)
    with os.fdopen(reading, "rb") as lines:
        assert found(lines.read(), tmp_path) == sorted(REFUSED)


def test_refused_clients_are_found_in_the_journal(tmp_path: Path) -> None:
    lines = []
    for event in fields():
        message = Journal.render(None, "info", event).split(b"\n")[0].removeprefix(b"MESSAGE=")
        lines.append(b"Nov 27 21:00:00 %b ucspid[7]: %b\n" % (socket.gethostname().encode(), message))
    assert found(b"".join(lines), tmp_path) == sorted(REFUSED)


def test_refused_clients_are_found_in_lines_of_tcpserver_that_multilog_has_kept(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    log = configure(writing, "tcpserver", "info")
    assert log.transcript is not None
    named = ClientFacts(remote_host=b"client.example.net", local_host=b"mx.example.org", info=b"joe")
    for number, (ip, reason) in enumerate((REFUSED | OTHERS).items()):
        local = "2001:db8::1" if ":" in ip else "192.0.2.1"
        ends = LoggedEnds((local, 25), (ip, 40312), named if number == 0 else NO_FACTS)
        log.transcript.refused(ends, "" if reason == "denied" else reason, (1, 40))
    log.transcript.started(7, LoggedEnds(("192.0.2.1", 25), ("198.51.100.3", 1), NO_FACTS))
    assert log.close(20)
    os.close(writing)
    with os.fdopen(reading, "rb") as lines:
        kept = [b"@400000006927d1d20c2b1a3c " + line for line in lines]
    assert found(b"".join(kept), tmp_path) == sorted(REFUSED)
