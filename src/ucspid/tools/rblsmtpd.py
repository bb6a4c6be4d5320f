"""rblsmtpd [OPTIONS] PROGRAM [ARG …]: become an SMTP server, unless the client is listed somewhere."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal takes 3 ms to import, for its enums
import _socket
import os
import select
import stat

from ucspid.tools import domain, resolver
from ucspid.tools.messages import EXIT_USAGE, ToolError, system_error, write_line
from ucspid.tools.options import Options, number
from ucspid.tools.process import environment, execute
from ucspid.tools.sockets import packed_ipv6
from ucspid.tools.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

USAGE = b"rblsmtpd: usage: rblsmtpd [ -b ] [ -R ] [ -t timeout ] [ -r base ] [ -a base ] smtpd [ arg ... ]"
LETTERS = "bBcCt:r:a:w:W"
UNDECIDED, ACCEPT, REFUSE, BOUNCE = range(4)
MAX_TEXT = 200
"""Bytes of the reason that the client gets."""
MAX_SECONDS = 2**31 - 1
MAX_KEPT = 512
"""Bytes of a command that are looked at."""
MAPPED = bytes(10) + b"\xff\xff"


class Decision:
    """What becomes of the client, as options and lists are looked at one after the other."""

    def __init__(self, ip: bytes) -> None:
        """Begin undecided."""
        self.verdict = UNDECIDED
        self.text = b""
        self.must_not_bounce = False
        self.bounces_listed = False
        self.fails_closed = False
        self.seconds = 60
        """For which a client that is refused may talk."""
        self._reversed = reverse(ip)

    def take_variable(self, value: bytes) -> None:
        """Have what RBLSMTPD says."""
        if not value:
            self.verdict = ACCEPT
        elif value.startswith(b"-"):
            self.verdict, self.text = BOUNCE, value[1:]
        else:
            self.verdict, self.text = REFUSE, value

    def take_option(self, letter: str, value: bytes) -> None:
        """Do what an option says: lists are looked at as they come. Raises ToolError if it is wrong."""
        if letter in "bB":
            self.bounces_listed = letter == "b"
        elif letter in "cC":
            self.fails_closed = letter == "c"
        elif letter == "t":
            self.seconds = number(value)
        elif letter == "r":
            self.look_up(value)
        elif letter == "a":
            self.look_up_exception(value)
        else:
            raise ToolError(EXIT_USAGE, USAGE)

    def look_up(self, base: bytes) -> None:
        """Look whether a list has the client."""
        if self.verdict:
            return
        try:
            self.text = resolver.texts_of(self._reversed + base)
        except OSError:
            self.must_not_bounce = True
            if self.fails_closed:
                self.verdict, self.text = REFUSE, b"temporary RBL lookup error"
            return
        if self.text:
            self.verdict = BOUNCE if self.bounces_listed else REFUSE

    def look_up_exception(self, base: bytes) -> None:
        """Look whether a list of those that are always accepted has the client."""
        if self.verdict:
            return
        try:
            found = resolver.addresses_of(self._reversed + base)
        except OSError:
            self.must_not_bounce = True
            if not self.fails_closed:
                self.verdict = ACCEPT
            return
        if found:
            self.verdict = ACCEPT

    def reply(self) -> bytes:
        """Return what the client is refused with."""
        code = b"451 " if self.must_not_bounce or self.verdict == REFUSE else b"553 "
        text = self.text[:MAX_TEXT]
        return code + bytes(byte if 32 <= byte <= 126 else ord("?") for byte in text)  # noqa: PLR2004


def main(argv: list[bytes]) -> int:
    """Become the program, or refuse the client and return the exit code. Raises ToolError."""
    ip = os.environb.get(b"TCPREMOTEIP", b"")
    decision = Decision(ip)
    if b"RBLSMTPD" in os.environb:
        decision.take_variable(os.environb[b"RBLSMTPD"])
    options = Options(argv, LETTERS)
    for letter, value in options:
        if letter in "wW":
            _delay(decision, ip, number(value if letter == "w" else os.environb.get(b"GREETDELAY", b"")))
        else:
            decision.take_option(letter, value)
    program = options.rest
    if not program:
        raise ToolError(EXIT_USAGE, USAGE)
    if decision.verdict in {REFUSE, BOUNCE}:
        refuse(ip, decision.reply(), decision.seconds)
    error = execute(program[0], program, environment())
    raise system_error(error, b"rblsmtpd: fatal: unable to run ", program[0], b": ")


def reverse(ip: bytes) -> bytes:
    """Return what comes before the name of a list: the parts of an address backwards. Pure."""
    address = packed_ipv6(ip)
    if address is not None and not address.startswith(MAPPED):
        return domain.nibbles(address)
    if address is not None:
        ip = b".".join(b"%d" % byte for byte in address[len(MAPPED) :])
    return b"".join(part + b"." for part in reversed(ip.split(b"."))) if ip else b""


def refuse(ip: bytes, reply: bytes, seconds: int) -> NoReturn:
    """Refuse all mail of the client, for so many seconds; with 0, refuse the client itself."""
    _log(ip, reply)
    reply += b"\r\n"
    if not seconds:
        _say(reply)
        os._exit(0)
    _signal.signal(_signal.SIGALRM, lambda _number, _frame: os._exit(0))
    _signal.alarm(min(seconds, MAX_SECONDS))
    _say(b"220 rblsmtpd.local\r\n")
    commands = Commands()
    while data := _hear():
        for verb in commands.feed(data):
            if verb == b"quit":
                _say(b"221 rblsmtpd.local\r\n")
                os._exit(0)
            _say(b"250 rblsmtpd.local\r\n" if verb in ACCEPTED else reply)
    os._exit(0)


ACCEPTED = frozenset({b"helo", b"ehlo", b"mail", b"rset", b"noop"})


class Commands:
    """The verbs of SMTP commands, in lower case, in whatever pieces they come. Pure."""

    def __init__(self) -> None:
        """Begin."""
        self._line = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the verbs that a piece completes."""
        *whole, rest = (self._line + data).split(b"\n")
        self._line = rest if len(rest) <= MAX_KEPT else rest[:MAX_KEPT]
        return [line.removesuffix(b"\r").partition(b" ")[0].lower() for line in whole]


def _delay(decision: Decision, ip: bytes, seconds: int) -> None:
    """Have the client wait for its greeting; one that does not wait is refused."""
    if decision.verdict or not seconds:
        return
    seconds = min(seconds, MAX_SECONDS // 1000)
    _log(ip, b"greetdelay: %d" % seconds)
    poll = select.poll()
    if _is_socket(0):
        poll.register(0, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return
    if not _peek():
        os._exit(0)  # it has hung up
    decision.verdict, decision.text = REFUSE, b"wait for the greeting"


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _peek() -> bytes:
    try:
        return _socket.socket(fileno=os.dup(0)).recv(1, _socket.MSG_PEEK)
    except OSError:
        return b""


def _log(ip: bytes, text: bytes) -> None:
    write_line(b"rblsmtpd: ", ip, b" pid %d: " % os.getpid(), text)


def _say(text: bytes) -> None:
    try:
        write_all(1, text)
    except OSError:
        return


def _hear() -> bytes:
    try:
        return os.read(0, MAX_KEPT)
    except OSError:
        return b""
