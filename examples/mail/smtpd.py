"""An SMTP server for one mailbox: python3 smtpd.py [MAILDIR], the client on descriptors 0 and 1.

RFC 5321 without relaying, with SIZE (RFC 1870), 8BITMIME (RFC 6152) and PIPELINING
(RFC 2920: one answer to each command, in order, and nothing that was read is thrown away).
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import maildir
import ucspi

COMMAND_LIMIT = 512
TEXT_LIMIT = 1000
"""Bytes in a command and in a line of text, with CR LF: RFC 5321, 4.5.3.1.4 and 4.5.3.1.6."""

CRLF = b"\r\n"
_MAIL = re.compile(rb"FROM: ?<(?:@[^:>]*:)?(.*?)>(?: (.*))?", re.IGNORECASE)
_RCPT = re.compile(rb"TO: ?<(?:@[^:>]*:)?(.*?)>(?: (.*))?", re.IGNORECASE)
"""A path with its parameters. A source route (@one,@two:) is ignored: RFC 5321, 4.1.1.3 and appendix C."""


def serve(connection: ucspi.Connection, box: Path) -> int:
    """Speak SMTP until QUIT; return the exit status. Raises what the connection raises."""
    try:
        return Session(connection, box).run()
    except TimeoutError:
        connection.send(b"421 idle for too long, closing the connection\r\n")
        return ucspi.DROPPED


class Session:
    """One client: who it says it is, and the transaction it is in."""

    def __init__(self, connection: ucspi.Connection, box: Path) -> None:
        """Begin before HELO, with no transaction."""
        self._connection = connection
        self._box = box
        self._greeting = ""
        self._protocol = "SMTP"
        self._sender: bytes | None = None
        self._recipients = 0
        self._status = ucspi.OK
        self._commands: dict[bytes, Callable[[bytes], None]] = {
            b"HELO": self._helo,
            b"EHLO": self._ehlo,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"RSET": self._rset,
            b"NOOP": lambda _: self._reply("250 nothing done"),
            b"VRFY": lambda _: self._reply("252 send some mail, then it will be seen"),
        }

    def run(self) -> int:
        """Answer commands until QUIT and return the exit status."""
        self._reply(f"220 {ucspi.local_name()} ESMTP")
        while True:
            try:
                line = self._connection.line(COMMAND_LIMIT)
            except ucspi.LineTooLongError:
                self._reply("500 line too long")
                continue
            verb, _, argument = line.strip().partition(b" ")
            if verb.upper() == b"QUIT":
                self._reply("221 goodbye")
                return self._status
            self._commands.get(verb.upper(), self._unknown)(argument.strip())

    def _reply(self, text: str) -> None:
        self._connection.send(text.encode("ascii") + CRLF)

    def _unknown(self, _argument: bytes) -> None:
        self._reply("500 command not recognized")

    def _forget(self) -> None:
        self._sender = None
        self._recipients = 0

    def _begin(self, argument: bytes, protocol: str) -> None:
        self._forget()
        self._greeting = argument.decode("ascii", "replace")
        self._protocol = protocol

    def _helo(self, argument: bytes) -> None:
        if not argument:
            self._reply("501 syntax: HELO name")
            return
        self._begin(argument, "SMTP")
        self._reply(f"250 {ucspi.local_name()}")

    def _ehlo(self, argument: bytes) -> None:
        if not argument:
            self._reply("501 syntax: EHLO name")
            return
        self._begin(argument, "ESMTP")
        lines = (
            f"250-{ucspi.local_name()}",
            "250-PIPELINING",
            "250-8BITMIME",
            f"250 SIZE {maildir.MAX_MESSAGE}",
        )
        self._reply("\r\n".join(lines))

    def _mail(self, argument: bytes) -> None:
        match = _MAIL.fullmatch(argument)
        if self._sender is not None:
            self._reply("503 there is a sender already")
        elif match is None or not maildir.is_address(match[1]):
            self._reply("501 syntax: MAIL FROM:<address>")
        elif problem := refused_parameter((match[2] or b"").upper().split()):
            self._reply(problem)
        else:
            self._sender = match[1]
            self._reply("250 sender accepted")

    def _rcpt(self, argument: bytes) -> None:
        match = _RCPT.fullmatch(argument)
        if self._sender is None:
            self._reply("503 MAIL comes first")
        elif match is None:
            self._reply("501 syntax: RCPT TO:<address>")
        elif match[2]:
            self._reply("555 parameter not recognized")
        elif not maildir.is_ours(match[1]):
            self._reply("553 no such mailbox here")
        elif self._recipients == maildir.MAX_RECIPIENTS:
            self._reply("452 too many recipients")
        else:
            self._recipients += 1
            self._reply("250 recipient accepted")

    def _data(self, argument: bytes) -> None:
        if argument:
            self._reply("501 DATA takes no argument")
        elif not self._recipients:
            self._reply("503 RCPT comes first")
        else:
            self._reply("354 go ahead, end with a line of one dot")
            message, problem = read_text(self._connection)
            self._reply(problem or self._deliver(message))
            self._forget()

    def _deliver(self, message: bytes) -> str:
        trace = ucspi.received(self._protocol, self._greeting)
        try:
            maildir.deliver(self._box, sender=self._sender or b"", trace=trace, message=message)
        except OSError as error:
            ucspi.log(f"cannot deliver: {error}")
            self._status = ucspi.TEMPORARY
            return "451 cannot store the message, try again later"
        return "250 message stored"

    def _rset(self, _argument: bytes) -> None:
        self._forget()
        self._reply("250 forgotten")


def refused_parameter(parameters: list[bytes]) -> str:
    """Return the reply that refuses the parameters of MAIL, in upper case; empty if all are good."""
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name == b"SIZE" and re.fullmatch(rb"[0-9]{1,20}", value):
            if int(value) > maildir.MAX_MESSAGE:
                return "552 message too big"
        elif parameter not in (b"BODY=7BIT", b"BODY=8BITMIME"):
            return "555 parameter not recognized"
    return ""


def read_text(connection: ucspi.Connection) -> tuple[bytes, str]:
    """Read up to the line of one dot; return the text with line feeds, and the reply that refuses it or "".

    Only CR LF ends a line (RFC 5321, 2.3.8). A bare line feed is refused rather than
    repaired: where two servers differ about the last line, mail can be smuggled in.
    """
    lines: list[bytes] = []
    size = 0
    problem = ""
    before = CRLF
    while (piece := connection.piece(TEXT_LIMIT + 1)) != b".\r\n" or before != CRLF:
        if before == CRLF and piece.startswith(b"."):
            piece = piece[1:]
        before = (before + piece)[-2:]
        size += len(piece)
        if len(piece) > TEXT_LIMIT or not piece.endswith(b"\n"):
            problem = problem or "500 line too long"
        elif before != CRLF:
            problem = problem or "554 line feed without carriage return"
        elif size > maildir.MAX_MESSAGE:
            problem = problem or "552 message too big"
        lines.append(piece[:-2] + b"\n")
        if problem:
            lines.clear()
    return b"".join(lines), problem


def main() -> NoReturn:
    """Serve the client on descriptors 0 and 1, and exit."""
    ucspi.run(serve)


if __name__ == "__main__":
    main()
