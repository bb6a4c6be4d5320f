"""The example mail services: the protocols in this process, and the programs on a socket."""

import contextlib
import importlib
import io
import os
import poplib
import re
import shutil
import smtplib
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import qmtp
from daemon import exchange, running
from folders import public_folder

ROOT = Path(__file__).parents[2]
MAIL = ROOT / "examples" / "mail"
BOUND = 20

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(MAIL))
    ucspi, maildir, smtpd, popd, qmtpd = (
        importlib.import_module(name) for name in ("ucspi", "maildir", "smtpd", "popd", "qmtpd")
    )

ENVELOPE = b"EHLO client\r\nMAIL FROM:<me@example.org>\r\nRCPT TO:<you@localhost>\r\nDATA\r\n"
LOGIN = b"USER you\r\nPASS secret\r\n"
MESSAGE = b"Subject: dots\n\n.\n..\n.a line that begins with a dot\n\n\xe4\x00\xff 8 bit\r\n last\n"
LINES = st.lists(st.binary(max_size=40).map(lambda line: re.sub(rb"[\r\n]", b".", line)), max_size=12)
bounded = settings(max_examples=100, deadline=None)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "var" / "mail"


@pytest.fixture(scope="module")
def common_box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mail")


def talk(program: Any, data: bytes, box: Path) -> tuple[int, bytes]:
    """Run the protocol in this process on a client that sends the data and leaves."""
    output = io.BytesIO()
    try:
        status = program.serve(ucspi.Connection(io.BytesIO(data), output), box)
    except EOFError:
        status = ucspi.DROPPED
    assert isinstance(status, int)
    return status, output.getvalue()


def smtp_codes(data: bytes, box: Path) -> list[int]:
    """Return the code of each reply after the greeting."""
    replies = re.findall(rb"^(\d{3}) .*\r$", talk(smtpd, data, box)[1], re.MULTILINE)
    return [int(code) for code in replies[1:]]


def qmtp_responses(data: bytes, box: Path) -> list[str]:
    stream = io.BytesIO(talk(qmtpd, data, box)[1])
    responses = []
    while stream.tell() < len(stream.getvalue()):
        responses.append(qmtp.read_netstring(stream).decode("ascii"))
    return responses


def smtp_text(message: bytes) -> bytes:
    """Return what a client sends after DATA for a message whose lines end with line feeds."""
    lines = message.split(b"\n")[:-1]
    return b"".join((b"." + line if line[:1] == b"." else line) + b"\r\n" for line in lines) + b".\r\n"


def retrieved(box: Path, command: bytes = b"RETR 1") -> bytes:
    """Return a message as POP3 sends it, without dot stuffing and without the two fields of the delivery."""
    output = talk(popd, LOGIN + command + b"\r\nQUIT\r\n", box)[1]
    body = output.partition(b"+OK message follows\r\n")[2].removesuffix(b".\r\n+OK goodbye\r\n")
    lines = re.findall(rb"[^\n]*\n", body)
    assert all(line.endswith(b"\r\n") for line in lines)
    assert lines[0].startswith(b"Return-Path: <")
    assert lines[1].startswith(b"Received: from ")
    assert lines[2].startswith(b"\tby ")
    return b"".join(line[1:] if line[:1] == b"." else line for line in lines[3:])


def stored(box: Path) -> list[bytes]:
    return [path.read_bytes() for path in maildir.messages(box)]


# What goes in comes out


@bounded
@given(lines=LINES)
def test_what_smtp_takes_pop3_gives_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    box = tmp_path_factory.mktemp("mail")
    message = b"".join(line + b"\n" for line in lines)
    assert smtp_codes(ENVELOPE + smtp_text(message) + b"QUIT\r\n", box) == [250, 250, 250, 354, 250, 221]
    assert retrieved(box) == message.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "encoded", [b"\n" + MESSAGE, b"\r" + MESSAGE.replace(b"\n", b"\r\n")], ids=["LF", "CR LF"]
)
def test_what_qmtp_takes_pop3_gives_back_byte_for_byte(box: Path, encoded: bytes) -> None:
    assert qmtp_responses(qmtp.package(encoded, "", ["you@localhost"]), box) == ["K message stored"]
    assert retrieved(box) == MESSAGE.replace(b"\n", b"\r\n")


def test_a_last_line_without_end_gets_one_on_the_way_out(box: Path) -> None:
    qmtp_responses(qmtp.package(b"\na: b\n\nhalf", "", ["you"]), box)
    assert retrieved(box) == b"a: b\r\n\r\nhalf\r\n"


def test_a_message_for_many_recipients_is_stored_once(box: Path) -> None:
    data = qmtp.package(b"\nx\n", "me@example.org", ["you", "him@example.org", "YOU@LocalHost"])
    assert [text[0] for text in qmtp_responses(data, box)] == ["K", "D", "K"]
    (message,) = stored(box)
    assert message.startswith(b"Return-Path: <me@example.org>\nReceived: from ")


def test_delivery_leaves_one_private_file_in_new_and_says_so(
    box: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    talk(smtpd, ENVELOPE + smtp_text(MESSAGE), box)
    assert capfd.readouterr().err == f"delivered {len(MESSAGE)} bytes from <me@example.org>\n"
    assert [path.parent.name for path in box.rglob("*") if path.is_file()] == ["new"]
    assert {oct(path.stat().st_mode & 0o777) for path in (box, box / "new", box / "cur")} == {"0o700"}
    assert maildir.messages(box)[0].stat().st_mode & 0o777 == 0o600


def test_the_trace_field_is_made_from_the_ucspi_environment(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROTO", "SSL")
    monkeypatch.setenv("SSLREMOTEIP", "::1")
    monkeypatch.setenv("SSLREMOTEHOST", "evil\nBcc: (x)\xff")
    monkeypatch.setenv("SSLLOCALIP", "10.0.0.1")
    monkeypatch.setenv("SSLLOCALHOST", "mx.example.org")
    talk(smtpd, ENVELOPE.replace(b"client", b"cli(ent\x00") + smtp_text(b""), box)
    lines = stored(box)[0].split(b"\n")
    assert lines[1] == b"Received: from cli?ent? (evil?Bcc:??x?? [::1])"
    assert re.fullmatch(
        rb"\tby mx\.example\.org with ESMTP; [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} \+0000",
        lines[2],
    )


@pytest.mark.parametrize(
    ("found", "own", "name"),
    [("mx.example.org", "vm", b"mx.example.org"), ("", "my host", b"my?host"), ("", "", b"localhost")],
)
def test_the_host_is_named_and_not_numbered(
    box: Path, monkeypatch: pytest.MonkeyPatch, found: str, own: str, name: bytes
) -> None:
    monkeypatch.delenv("PROTO", raising=False)
    monkeypatch.setenv("TCPLOCALIP", "10.0.0.1")
    monkeypatch.setenv("TCPLOCALHOST", found)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=own))
    said = talk(smtpd, ENVELOPE + smtp_text(b""), box)[1]
    assert said.startswith(b"220 %b ESMTP\r\n250-%b\r\n" % (name, name))
    monkeypatch.undo()
    assert b"\n\tby %b with ESMTP; " % name in stored(box)[0]


# SMTP


def test_smtp_takes_mail_for_the_postmaster_of_this_host(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCPLOCALHOST", "MX.example.org")
    ours = [
        b"Postmaster",
        b"postmaster",
        b"POSTMASTER@mx.Example.ORG",
        b"postmaster@localhost",
        b"you@mx.example.org",
    ]
    others = [b"postmaster@example.org", b"postmaster@", b"postmaster@mx.example.org.", b"@", b""]
    commands = b"".join(b"RCPT TO:<%b>\r\n" % address for address in ours + others)
    codes = [250] * len(ours) + [553] * len(others)
    assert smtp_codes(b"MAIL FROM:<>\r\n" + commands, box) == [250, *codes]


def test_smtp_ignores_source_routes(box: Path) -> None:
    envelope = b"MAIL FROM:<@a.example:me@example.org>\r\nRCPT TO:<@a.example,@b:you@localhost>\r\nDATA\r\n"
    assert smtp_codes(envelope + smtp_text(b""), box) == [250, 250, 354, 250]
    assert stored(box)[0].startswith(b"Return-Path: <me@example.org>\n")
    assert smtp_codes(b"MAIL FROM:<>\r\nRCPT TO:<@you>\r\nRCPT TO:<@a:him>\r\n", box) == [250, 553, 553]


@pytest.mark.parametrize(
    ("commands", "codes"),
    [
        (b"NOOP\r\nVRFY you\r\nnoop\nGARBAGE\r\n\r\n", [250, 252, 250, 500, 500]),
        (b"HELO x\r\nRCPT TO:<you>\r\nDATA\r\n", [250, 503, 503]),
        (b"MAIL FROM:<>\r\nMAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\n", [250, 503, 250, 250]),
        (b"MAIL FROM:<>\r\nRCPT TO:<him@example.org>\r\nDATA\r\n", [250, 553, 503]),
        (b"MAIL FROM:<>\r\nRCPT TO:<you>\r\nEHLO x\r\nDATA\r\n", [250, 250, 250, 503]),
        (b"MAIL FROM:<>\r\nRCPT TO:you\r\nRCPT TO:<you>X\r\n", [250, 501, 501]),
        (b"MAIL FROM:<>\r\nRCPT TO:<you> X=Y\r\nRCPT TO:<you> NOTIFY=NEVER ORCPT=x\r\n", [250, 555, 555]),
        (b"MAIL FROM:<> X=Y\r\nMAIL FROM:<> SIZE=1 AUTH=<>\r\n", [555, 555]),
        (b"HELO\r\nEHLO \r\nHELO x\r\n", [501, 501, 250]),
        (b"MAIL FROM:a\r\nMAIL FROM:<a\x00b>\r\nMAIL FROM:<a\r>\r\nMAIL\r\n", [501, 501, 501, 501]),
        (b"MAIL FROM:<a@b> SIZE=1048576 BODY=8BITMIME\r\n", [250]),
        (b"MAIL FROM:<a@b> size=1048577\r\n", [552]),
        (b"MAIL FROM:<a@b> SIZE=-1\r\nMAIL FROM:<a@b> RET=HDRS\r\n", [555, 555]),
        (b"N" * 512 + b"\r\nNOOP\r\n", [500, 250]),
        (b"NOOP " + b"x" * 99999 + b"\r\nNOOP\r\n", [500, 250]),
        (b"NOOP " + b"x" * 505 + b"\r\n", [250]),
        (b"MAIL FROM:<>\r\nRCPT TO:<you>\r\nDATA now\r\n", [250, 250, 501]),
        (b"MAIL FROM:<>\r\n" + b"RCPT TO:<you>\r\n" * 101, [250] * 101 + [452]),
    ],
)
def test_smtp_replies(box: Path, commands: bytes, codes: list[int]) -> None:
    assert smtp_codes(commands, box) == codes
    assert stored(box) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"x" * 998 + b"\r\n", 250),
        (b"." + b"." * 998 + b"\r\n", 250),
        (b"x" * 999 + b"\r\n", 500),
        (b"x" * 1000 + b"\r\n", 500),
        (b"x" * 1001 + b"\r\n", 500),
        (b"x" * 5000 + b"\r\n", 500),
        (b"bare\nline feed\r\n", 554),
        (b"\n.\r\nQUIT\r\n", 554),
        (b"\n.\nQUIT\r\n", 554),
        (b"\r\n.\nQUIT\r\n", 554),
        (b"x" * 1001 + b"\n.\r\nQUIT\r\n", 500),
        (b"x\r.\r\r\n", 250),
        ((b"x" * 62 + b"\r\n") * (1 << 14), 250),
        ((b"x" * 62 + b"\r\n") * (1 << 14) + b"\r\n", 552),
    ],
)
def test_smtp_ends_the_text_at_the_dot_alone_and_takes_or_refuses_it(
    box: Path, text: bytes, code: int
) -> None:
    assert smtp_codes(ENVELOPE + text + b".\r\nNOOP\r\n", box)[3:] == [354, code, 250]
    assert len(stored(box)) == (code == 250)


def test_smtp_takes_the_next_message_after_one_that_was_refused(box: Path) -> None:
    again = ENVELOPE.partition(b"\r\n")[2]
    data = ENVELOPE + b"a\nb\r\n.\r\n" + again + smtp_text(b"good\n") + b"QUIT\r\n"
    assert smtp_codes(data, box)[3:] == [354, 554, 250, 250, 354, 250, 221]
    assert len(stored(box)) == 1


# QMTP


def test_qmtp_answers_packages_sent_together_each_in_order(box: Path) -> None:
    data = qmtp.package(b"\n1\n", "a@b", ["you", "x"]) + qmtp.package(b"\n2\n", "a@b", ["y", "you"])
    assert [text[0] for text in qmtp_responses(data, box)] == ["K", "D", "D", "K"]
    assert [message[-2:] for message in stored(box)] == [b"1\n", b"2\n"]


@pytest.mark.parametrize(
    ("encoded", "sender", "verdict"),
    [
        (b"\n" + b"x" * (1 << 20), "a@b", "K"),
        (b"\n" + b"x" * ((1 << 20) + 1), "a@b", "D5.3.4"),
        (b"", "a@b", "D5.6.0"),
        (b"no line end", "a@b", "D5.6.0"),
        (b"\nx", "a\nBcc: b", "D5.1.7"),
        (b"\nx", "a" * 257, "D5.1.7"),
        (b"\nx", "<>", "D5.1.7"),
    ],
)
def test_qmtp_takes_or_refuses_a_message(box: Path, encoded: bytes, sender: str, verdict: str) -> None:
    data = qmtp.package(encoded, sender, ["you"]) + qmtp.package(b"\n", "", ["you"])
    first, second = qmtp_responses(data, box)
    assert first.startswith(verdict)
    assert second.startswith("K")


def test_qmtp_defers_recipients_beyond_the_limit(box: Path) -> None:
    responses = qmtp_responses(qmtp.package(b"\n", "", ["x", *["you"] * 101]), box)
    assert [text[0] for text in responses] == ["D", *["K"] * 100, "Z"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b":,",
        b"01:\n,0:,6:3:you,,",
        b"100000000:",
        b"1:\n;0:,6:3:you,,",
        b"1:\n,65537:",
        b"1:\n,0:,6:3:you;,",
        b"1:\n,0:,6:4:you,,",
        b"1:\n,0:,6:3you,,,",
        b"1:\n,0:,6:99999:,",
    ],
)
def test_qmtp_disconnects_a_client_that_does_not_speak_it(box: Path, data: bytes) -> None:
    assert talk(qmtpd, data + b"\n" * 20, box) == (ucspi.DROPPED, b"")
    assert stored(box) == []


# POP3


@pytest.fixture
def two_messages(box: Path) -> Path:
    for text in (b"\na: 1\n\none\n.two\n", b"\nb: 2\n"):
        qmtp_responses(qmtp.package(text, "", ["you"]), box)
    return box


def pop_replies(commands: bytes, box: Path) -> list[str]:
    """Return the first line of each answer after the log-in."""
    lines = talk(popd, LOGIN + commands, box)[1].decode("ascii").split("\r\n")
    return [line for line in lines if line.startswith(("+OK", "-ERR"))][3:]


def test_pop3_numbers_and_sizes_agree_with_what_it_sends(two_messages: Path) -> None:
    bodies = []
    for number in (1, 2):
        output = talk(popd, LOGIN + b"RETR %d\r\n" % number, two_messages)[1]
        body = output.partition(b"+OK message follows\r\n")[2].removesuffix(b".\r\n")
        bodies.append(len(body.replace(b"\r\n..", b"\r\n.")))
    replies = pop_replies(b"STAT\r\nLIST 1\r\nLIST 2\r\nLIST\r\n", two_messages)
    assert replies[:3] == [f"+OK 2 {sum(bodies)}", f"+OK 1 {bodies[0]}", f"+OK 2 {bodies[1]}"]


def test_pop3_top_sends_the_header_and_so_many_lines(two_messages: Path) -> None:
    assert retrieved(two_messages, b"TOP 1 0") == b"a: 1\r\n\r\n"
    assert retrieved(two_messages, b"TOP 1 1") == b"a: 1\r\n\r\none\r\n"
    assert retrieved(two_messages, b"TOP 1 99") == b"a: 1\r\n\r\none\r\n.two\r\n"
    assert retrieved(two_messages, b"TOP 2 1") == b"b: 2\r\n"


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        (b"RETR 3\r\nRETR 0\r\nRETR -1\r\nRETR\r\nRETR x\r\n", ["-ERR"] * 5),
        (b"TOP 1\r\nTOP 1 x\r\nTOP 9 1\r\nUSER you\r\nAPOP\r\n", ["-ERR"] * 5),
        (b"DELE 1\r\nDELE 1\r\nRETR 1\r\nLIST 1\r\nRSET\r\nDELE 1\r\n", ["+OK", *["-ERR"] * 3, "+OK", "+OK"]),
        (b"N" * 255 + b"\r\nnoop\r\n", ["-ERR", "+OK"]),
        (b"RETR " + b"9" * 240 + b"\r\n", ["-ERR"]),
    ],
)
def test_pop3_replies(two_messages: Path, commands: bytes, replies: list[str]) -> None:
    assert [line.split()[0] for line in pop_replies(commands, two_messages)] == replies
    assert len(stored(two_messages)) == 2


def test_pop3_removes_only_at_quit_and_keeps_the_names_of_the_rest(two_messages: Path) -> None:
    before = talk(popd, LOGIN + b"UIDL\r\n", two_messages)[1].split(b"\r\n")[-3:-2]
    assert pop_replies(b"DELE 1\r\n", two_messages) == ["+OK removed at QUIT"]
    assert len(stored(two_messages)) == 2
    assert pop_replies(b"DELE 1\r\nQUIT\r\n", two_messages)[-1] == "+OK goodbye"
    (uid,) = talk(popd, LOGIN + b"UIDL\r\n", two_messages)[1].split(b"\r\n")[-3:-2]
    assert uid.split(b" ")[1] == before[0].split(b" ")[1]
    assert len(stored(two_messages)) == 1


def test_pop3_lets_nobody_in_with_a_wrong_password_and_exits_after_three(two_messages: Path) -> None:
    data = b"STAT\r\nPASS secret\r\nUSER you\r\nPASS Secret\r\nUSER me\r\nPASS secret\r\nNOOP\r\n"
    status, output = talk(popd, data, two_messages)
    assert [line[:4] for line in output.split(b"\r\n")] == [
        b"+OK ", b"-ERR", b"-ERR", b"+OK ", b"-ERR", b"+OK ", b"-ERR", b""
    ]  # fmt: skip
    assert status == ucspi.DROPPED


def test_pop3_outlives_a_message_that_another_session_removed(two_messages: Path) -> None:
    class RemovesAll(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            line = super().readline(size)
            if line == b"RETR 1\r\n":
                for path in maildir.messages(two_messages):
                    path.unlink()
            return line

    output = io.BytesIO()
    commands = LOGIN + b"RETR 1\r\nDELE 1\r\nQUIT\r\n"
    assert popd.serve(ucspi.Connection(RemovesAll(commands), output), two_messages) == ucspi.OK
    assert [line[:4] for line in output.getvalue().split(b"\r\n")[3:]] == [b"-ERR", b"+OK ", b"+OK ", b""]


def test_pop3_of_a_mailbox_that_never_got_mail_is_empty(box: Path) -> None:
    assert pop_replies(b"STAT\r\nQUIT\r\n", box) == ["+OK 0 0", "+OK goodbye"]


# Whatever the client does


@pytest.mark.parametrize(
    ("program", "session", "answer"),
    [
        (smtpd, ENVELOPE + smtp_text(MESSAGE) + b"QUIT\r\n", b"\r\n451 "),
        (qmtpd, qmtp.package(b"\nx", "", ["you", "x"]), b",27:D5.1.1 "),
        (popd, LOGIN + b"QUIT\r\n", b"\r\n-ERR cannot read"),
    ],
    ids=["smtp", "qmtp", "pop3"],
)
def test_a_broken_maildir_is_a_temporary_failure(
    box: Path, program: Any, session: bytes, answer: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    box.parent.mkdir()
    box.write_text("a file where the Maildir should be")
    status, output = talk(program, session, box)
    assert status == ucspi.TEMPORARY
    assert answer in output
    assert (b":Z4.3.0 " in output) == (program is qmtpd)
    assert re.fullmatch(r"cannot (deliver|read the mailbox): \[Errno \d+\] .*\n", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("program", "session", "delivered_after"),
    [
        (smtpd, ENVELOPE + smtp_text(MESSAGE) + b"QUIT\r\n", b"last\r\n.\r\n"),
        (qmtpd, qmtp.package(b"\n" + MESSAGE, "me@example.org", ["you", "x"]), b",,"),
        (popd, LOGIN + b"STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 1 1\r\nDELE 1\r\nRSET\r\nQUIT\r\n", b"\0"),
    ],
    ids=["smtp", "qmtp", "pop3"],
)
def test_a_client_that_disconnects_at_any_point_leaves_all_or_nothing(
    tmp_path: Path, program: Any, session: bytes, delivered_after: bytes
) -> None:
    for length in range(len(session) + 1):
        box = tmp_path / str(length)
        status, _ = talk(program, session[:length], box)
        assert len(stored(box)) == (delivered_after in session[:length])
        complete = length == len(session) or (program is qmtpd and length == 0)
        assert status == (ucspi.OK if complete else ucspi.DROPPED)


COMMANDS = [
    *(ENVELOPE + LOGIN + smtp_text(MESSAGE)).splitlines(keepends=True),
    *(b"RETR 1\r\n", b"TOP 1 2\r\n", b"LIST\r\n", b"DELE 1\r\n", b"RSET\r\n", b"QUIT\r\n", b"NOOP"),
    *(b"1:\n,", b"0:,", b"6:3:you,,", b"9:", b"\r", b"\n", b"\0", b":", b"<", b">", b" ", b"." * 2000),
]


@bounded
@given(parts=st.lists(st.one_of(st.sampled_from(COMMANDS), st.binary(max_size=30)), max_size=25))
def test_any_bytes_get_well_formed_answers(common_box: Path, parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert re.fullmatch(rb"(\d{3}[ -][ -~]+\r\n)+", talk(smtpd, data, common_box)[1])
    assert re.match(rb"\+OK ready\r\n(.*\r\n)*\Z", talk(popd, data, common_box)[1])
    assert all(text[0] in "KZD" for text in qmtp_responses(data, common_box))


@pytest.mark.parametrize("program", [smtpd, qmtpd, popd], ids=["smtp", "qmtp", "pop3"])
def test_it_does_not_matter_in_which_pieces_the_bytes_arrive(box: Path, program: Any) -> None:
    session = {
        smtpd: ENVELOPE + smtp_text(MESSAGE) + b"N" * 600 + b"\r\nQUIT\r\n",
        qmtpd: qmtp.package(b"\n" + MESSAGE, "", ["you"]) * 2,
        popd: LOGIN + b"STAT\r\nUIDL\r\nQUIT\r\n",
    }[program]

    class Trickle(io.RawIOBase):
        rest = session

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            byte, self.rest = self.rest[:1], self.rest[1:]
            buffer[: len(byte)] = byte
            return len(byte)

    output = io.BytesIO()
    status = program.serve(ucspi.Connection(io.BufferedReader(Trickle()), output), box)
    assert (status, output.getvalue()) == talk(program, session, box)


def test_an_answer_that_the_client_takes_in_pieces_is_sent_whole(box: Path) -> None:
    class Narrow:
        taken = b""

        def write(self, data: Any) -> int:
            self.taken += bytes(data[:3])
            return min(3, len(data))

    output = Narrow()
    smtpd.serve(ucspi.Connection(io.BytesIO(b"EHLO x\r\nQUIT\r\n"), output), box)
    assert output.taken == talk(smtpd, b"EHLO x\r\nQUIT\r\n", box)[1]


# The programs


class Program:
    """A program of the example that runs with one end of a socket pair, and the other end."""

    def __init__(self, argv: list[str], cwd: Path = ROOT, user: int | None = None) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(BOUND)
        groups = None if user is None else ()
        with theirs:
            self._process = subprocess.Popen(
                argv,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                text=True,
                cwd=cwd,
                user=user,
                group=user,
                extra_groups=groups,
            )

    def wait(self) -> int:
        """Wait for the program to end by itself."""
        return self._process.wait(timeout=BOUND)

    def end(self) -> tuple[int, str]:
        """Leave; return the exit status and what was written to descriptor 2."""
        self.sock.close()
        try:
            errors = self._process.communicate(timeout=BOUND)[1]
        finally:
            self._process.kill()
            self._process.wait()
        return self._process.returncode, errors


def start(name: str, box: Path) -> Program:
    return Program([sys.executable, str(MAIL / name), str(box)])


class Smtp(smtplib.SMTP):
    def __init__(self, sock: socket.socket) -> None:
        self._given = sock
        super().__init__("localhost", local_hostname="client")

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002
        return self._given


class Pop3(poplib.POP3):
    def __init__(self, sock: socket.socket) -> None:
        self._given = sock
        super().__init__("localhost")

    def _create_socket(self, timeout: float) -> socket.socket:  # noqa: ARG002
        return self._given


def test_mail_by_smtp_and_by_qmtp_is_read_and_removed_by_pop3(box: Path) -> None:
    sending = start("smtpd.py", box)
    with Smtp(sending.sock) as smtp:
        refused = smtp.sendmail(
            "me@example.org", ["you@localhost", "him@example.org"], b"a: 1\r\n\r\n.dot\r\n"
        )
    assert {recipient: code for recipient, (code, _) in refused.items()} == {"him@example.org": 553}
    assert sending.end() == (0, "delivered 11 bytes from <me@example.org>\n")

    sending = start("qmtpd.py", box)
    assert qmtp.send(sending.sock, b"b: 2\n\n.dot\n", "", ["you@localhost"]) == ["K message stored"]
    assert sending.end() == (0, "delivered 11 bytes from <>\n")

    reading = start("popd.py", box)
    pop3 = Pop3(reading.sock)
    assert {"TOP", "UIDL", "USER"} <= pop3.capa().keys()
    pop3.user("you")
    pop3.pass_("secret")
    assert [pop3.retr(number)[1][3:] for number in (1, 2)] == [
        [b"a: 1", b"", b".dot"],
        [b"b: 2", b"", b".dot"],
    ]
    pop3.dele(1)
    pop3.quit()
    assert reading.end() == (0, "")
    assert [message[-11:] for message in stored(box)] == [b"b: 2\n\n.dot\n"]


@pytest.mark.parametrize(
    ("name", "data"), [("smtpd.py", b"EHLO x\r\nMAIL FR"), ("popd.py", b"USER y"), ("qmtpd.py", b"999:\n")]
)
def test_a_client_that_disconnects_ends_the_program_quietly(box: Path, name: str, data: bytes) -> None:
    program = start(name, box)
    program.sock.sendall(data)
    assert program.end() == (ucspi.DROPPED, "")


IMPATIENT = "import sys, ucspi; ucspi.IDLE = 0.05; import {0}; ucspi.run({0}.serve)"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smtpd", rb"220 \S+ ESMTP\r\n421 idle .*\r\n"),
        ("popd", rb"\+OK ready\r\n"),
        ("qmtpd", rb""),
    ],
)
def test_a_silent_client_is_disconnected(box: Path, name: str, words: bytes) -> None:
    program = Program([sys.executable, "-c", IMPATIENT.format(name), str(box)], cwd=MAIL)
    with program.sock.makefile("rb") as stream:
        assert re.fullmatch(words, stream.read())
    assert program.end() == (ucspi.DROPPED, "")


def test_a_client_that_takes_no_answers_is_disconnected(box: Path) -> None:
    program = Program([sys.executable, "-c", IMPATIENT.format("smtpd"), str(box)], cwd=MAIL)
    program.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while program.sock.send(b"NOOP\r\n" * 100):
            pass
    assert program.wait() == ucspi.DROPPED
    assert program.end() == (ucspi.DROPPED, "")


@pytest.mark.parametrize("name", ["smtpd.py", "popd.py", "qmtpd.py"])
def test_a_wrong_command_line_is_refused(name: str) -> None:
    program = Program([sys.executable, str(MAIL / name), "one", "two"])
    assert program.end() == (ucspi.USAGE, f"usage: {MAIL / name} [MAILDIR]\n")


def test_without_a_maildir_the_mail_is_in_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name, session in (("smtpd.py", ENVELOPE + smtp_text(MESSAGE)), ("popd.py", LOGIN + b"DELE 1\r\n")):
        program = Program([sys.executable, str(MAIL / name)])
        program.sock.sendall(session + b"QUIT\r\n")
        assert program.wait() == ucspi.OK
        program.end()
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"ucspid-mail-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert stored(folder) == []


@pytest.mark.parametrize("kind", ["link", "file", "open", "foreign"])
def test_what_somebody_else_has_put_in_its_place_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "foreign" and os.geteuid() != 0:
        pytest.skip("only root can give something to another user")
    path = tmp_path / f"ucspid-mail-{os.geteuid()}"
    if kind == "file":
        path.touch(mode=0o600)
    else:
        folder = tmp_path / "elsewhere" if kind == "link" else path
        folder.mkdir()
        folder.chmod(0o777 if kind == "open" else 0o700)
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    if kind == "foreign":
        shutil.chown(path, 65534)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = Program([sys.executable, str(MAIL / "smtpd.py")])
    status, said = program.wait(), program.end()[1]
    assert status == ucspi.TEMPORARY
    assert said == f"no mailbox: [Errno 1] not a folder of this user alone: '{path}'\n"


SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/bin") or ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(not SYSTEM_PYTHON, reason="needs a python3 that every user can start")
@pytest.mark.parametrize(
    ("service", "session", "answer"),
    [
        ("smtp", b"QUIT\r\n", b"220 "),
        ("pop3", LOGIN + b"QUIT\r\n", b"+OK "),
        ("qmtp", qmtp.package(b"\n", "", ["you"]), b"16:K message"),
    ],
)
def test_the_configured_programs_run_for_a_user_who_cannot_reach_the_checkout(
    tmp_path: Path, service: str, session: bytes, answer: bytes
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    mail = private / "checkout" / "examples" / "mail"
    shutil.copytree(MAIL, mail)
    shipped = yaml.safe_load((ROOT / "config" / "ucspid.yaml").read_text())
    configured = {**shipped["services"][service], "listen": "127.0.0.1:0"}
    with public_folder() as folder:
        defaults = {**shipped["defaults"], "chdir": str(mail), "env": {"TMPDIR": str(folder)}}
        with running(folder, {"defaults": defaults, "services": {service: configured}}) as daemon:
            assert daemon.talk(service, session).startswith(answer)
            assert daemon.wait_event("connection_served")["status"] == 0


def check_answer(program: Program, session: bytes, answer: bytes) -> None:
    assert exchange(program.sock, session).startswith(answer)
    assert program.end()[0] == 0
