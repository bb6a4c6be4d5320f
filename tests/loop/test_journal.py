"""The journal's native protocol, by a socket in its place: entries with fields, whatever is in them."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.journal_relay import relay
from ucspid.linux.journal_stream import leads_to_journal
from ucspid.observe.journal import MAX_ENTRY, MAX_VALUE, Journal
from ucspid.observe.log import configure

TIMEOUT = 20.0


def entry(data: bytes) -> dict[str, bytes]:
    """Read an entry as journald does."""
    fields = {}
    while data:
        name, separator, rest = data.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            assert separator
        else:
            key, size = name, int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest.startswith(b"\n")
            rest = rest[1:]
        fields[key.decode()] = value
        data = rest
    return fields


@pytest.fixture
def relayed() -> Iterator[tuple[int, socket.socket]]:
    """The loop's end of the socket to a relay, and the relay's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(TIMEOUT)
    with theirs:
        yield ours.detach(), theirs


def test_an_event_is_an_entry_with_fields(relayed: tuple[int, socket.socket]) -> None:
    ours, journald = relayed
    log = configure(0, "auto", "info", journal=Journal(ours))
    log.logger.warning("connection_served", service="smtp", conn="1f", remote="192.0.2.7:40312", status=99)
    log.logger.info("started", changes=["smtp: added", "pop3: added"])
    log.logger.info("program_stderr", service="smtp", line="hello = there")
    assert entry(journald.recv(10_000)) == {
        "MESSAGE": b"connection_served service=smtp conn=1f remote=192.0.2.7:40312 status=99",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"ucspid",
        "UCSPID_EVENT": b"connection_served",
        "UCSPID_SERVICE": b"smtp",
        "UCSPID_CONN": b"1f",
        "UCSPID_REMOTE": b"192.0.2.7:40312",
        "UCSPID_STATUS": b"99",
    }
    assert entry(journald.recv(10_000))["UCSPID_CHANGES"] == b"smtp: added\npop3: added"
    assert entry(journald.recv(10_000))["MESSAGE"] == b"smtp: hello = there"
    assert log.close(TIMEOUT)
    os.close(ours)


@given(st.dictionaries(st.sampled_from(["remote", "reason", "line"]), st.text() | st.lists(st.text())))
def test_hostile_fields_make_no_field_of_their_own(fields: dict[str, Any]) -> None:
    read = entry(Journal.render(None, "error", {"event": "e", **fields}))
    assert read.keys() == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "UCSPID_EVENT"} | {
        f"UCSPID_{key.upper()}" for key in fields
    }
    assert b"\n" not in read["MESSAGE"]


def test_an_entry_is_bounded() -> None:
    one = entry(Journal.render(None, "info", {"event": "e", "reason": "x" * 2 * MAX_VALUE}))
    assert len(one["UCSPID_REASON"]) == MAX_VALUE
    many = {f"field{number}": "x" * MAX_VALUE for number in range(20)}
    rest = Journal.render(None, "info", {"event": "e", **many})
    assert len(rest) <= MAX_ENTRY
    assert entry(rest).keys() == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}


def test_without_its_relay_it_writes_lines_with_priorities(relayed: tuple[int, socket.socket]) -> None:
    ours, journald = relayed
    reading, writing = os.pipe()
    journal = Journal(ours, writing)
    data = Journal.render(None, "error", {"event": "e", "service": "smtp", "reason": "a\nb"})
    assert journal.write([data]) == len(data)
    assert journald.recv(10_000) == data
    journald.close()
    assert journal.write([data, data]) == 2 * len(data)
    assert not journal.native
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert lines.read() == "<3>e service=smtp reason='a\\nb'\n" * 2
    assert journal.write([data, data]) == 0


def test_the_relay_sends_what_it_gets_until_that_ends(
    relayed: tuple[int, socket.socket], tmp_path: Path
) -> None:
    ours, entries = relayed
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal,
    ):
        journald.bind(str(tmp_path / "socket"))
        journal.connect(str(tmp_path / "socket"))
        for entry_ in (b"one", b"two"):
            os.write(ours, entry_)
        os.close(ours)
        assert relay(entries, journal) == 0
        assert [journald.recv(10) for _ in range(2)] == [b"one", b"two"]


@pytest.mark.parametrize("value", ["", "x", "1:2", "1", "99999999999999999999:1"])
def test_another_stream_is_not_the_journal(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", value)
    assert not leads_to_journal(0)
    assert Journal.of_stderr(None) is None


def test_standard_error_is_the_journal_where_systemd_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert leads_to_journal(2)
    journal = Journal.of_stderr(None)
    assert journal is not None
    assert not journal.native


@pytest.mark.parametrize("form", ["json", "console", "logfmt", "tcpserver"])
def test_in_a_form_of_the_file_each_line_has_its_priority(form: Any) -> None:
    reading, writing = os.pipe()
    log = configure(writing, form, "info", journal=Journal(None))
    log.logger.error("internal_error", exception="one\ntwo")
    log.logger.warning("accept_failed", service="smtp", reason="no")
    if log.transcript is not None:
        log.transcript.status(1, 40)
    assert log.close(TIMEOUT)
    os.close(writing)
    with os.fdopen(reading) as lines:
        marks = [line[:3] for line in lines]
    expected = {"console": ["<3>"] * 3 + ["<4>"], "tcpserver": ["<3>", "<4>", "<6>"]}
    assert marks == expected.get(form, ["<3>", "<4>"])
