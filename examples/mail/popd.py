"""A POP3 server for one mailbox: python3 popd.py [MAILDIR], the client on descriptors 0 and 1.

RFC 1939 with CAPA (RFC 2449). The messages are those that were there at PASS; nothing is
moved or removed before QUIT. A Maildir needs no lock: a message that another session
removed meanwhile is answered with -ERR.
"""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import maildir
import ucspi

CRLF = b"\r\n"
USER = b"you"
PASSWORD = b"secret"

COMMAND_LIMIT = 255
"""Bytes in a command, with CR LF: RFC 2449, 4."""

PASSWORD_TRIES = 3
CAPABILITIES = (b"USER", b"TOP", b"UIDL", b"PIPELINING")
UID_LENGTH = 70


def serve(connection: ucspi.Connection, box: Path) -> int:
    """Speak POP3 until QUIT; return the exit status. Raises what the connection raises.

    A client that is silent for too long is disconnected without a word, and nothing is removed: RFC 1939, 3.
    """
    return Session(connection, box).run()


class Session:
    """One client: not logged in at first, then with the messages it may read and remove."""

    def __init__(self, connection: ucspi.Connection, box: Path) -> None:
        """Begin before USER."""
        self._connection = connection
        self._box = box
        self._user = b""
        self._tries = 0
        self._messages: list[Path] = []
        self._sizes: list[int] = []
        self._deleted: set[int] = set()
        self._status = ucspi.OK
        self._commands: dict[bytes, Callable[[bytes], None]] = {
            b"USER": self._set_user,
            b"PASS": self._log_in,
            b"CAPA": lambda _: self._reply_lines("capabilities", CAPABILITIES),
        }

    def run(self) -> int:
        """Answer commands until QUIT, or too many wrong passwords, and return the exit status."""
        self._reply("+OK ready")
        while self._tries < PASSWORD_TRIES:
            try:
                line = self._connection.line(COMMAND_LIMIT)
            except ucspi.LineTooLongError:
                self._reply("-ERR line too long")
                continue
            verb, _, argument = line.rstrip(CRLF).partition(b" ")
            if verb.upper() == b"QUIT":
                self._quit()
                return self._status
            self._commands.get(verb.upper(), self._unknown)(argument)
        return ucspi.DROPPED

    def _reply(self, text: str) -> None:
        self._connection.send(text.encode("ascii") + CRLF)

    def _reply_lines(self, text: str, lines: Iterable[bytes]) -> None:
        stuffed = (b"." + line if line.startswith(b".") else line for line in lines)
        self._connection.send(CRLF.join((b"+OK " + text.encode("ascii"), *stuffed, b".", b"")))

    def _unknown(self, _argument: bytes) -> None:
        self._reply("-ERR not a command, or not now")

    def _set_user(self, argument: bytes) -> None:
        self._user = argument
        self._reply("+OK the password, please")

    def _log_in(self, argument: bytes) -> None:
        if (self._user, argument) != (USER, PASSWORD):
            self._tries += 1
            self._reply("-ERR wrong user or password")
            return
        try:
            self._open_mailbox()
        except OSError as error:
            ucspi.log(f"cannot read the mailbox: {error}")
            self._status = ucspi.TEMPORARY
            self._reply("-ERR cannot read the mailbox, try again later")
            return
        self._commands = self._transaction_commands()
        self._reply(f"+OK {len(self._messages)} messages")

    def _open_mailbox(self) -> None:
        sizes: dict[Path, int] = {}
        for path in maildir.messages(self._box):
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = sum(len(line) + len(CRLF) for line in read_lines(path))
        self._messages = list(sizes)
        self._sizes = list(sizes.values())

    def _transaction_commands(self) -> dict[bytes, Callable[[bytes], None]]:
        return {
            b"CAPA": self._commands[b"CAPA"],
            b"STAT": self._stat,
            b"LIST": lambda argument: self._list(argument, lambda index: b"%d" % self._sizes[index]),
            b"UIDL": lambda argument: self._list(argument, lambda index: unique_id(self._messages[index])),
            b"RETR": lambda argument: self._show(argument, None),
            b"TOP": self._top,
            b"DELE": self._dele,
            b"NOOP": lambda _: self._reply("+OK"),
            b"RSET": self._rset,
        }

    def _kept(self) -> list[int]:
        return [index for index in range(len(self._messages)) if index not in self._deleted]

    def _index(self, argument: bytes) -> int | None:
        """Return the index of the message with this number; where there is none, say so and return None."""
        if argument.isdigit() and int(argument) - 1 in self._kept():
            return int(argument) - 1
        self._reply("-ERR no such message")
        return None

    def _stat(self, _argument: bytes) -> None:
        kept = self._kept()
        self._reply(f"+OK {len(kept)} {sum(self._sizes[index] for index in kept)}")

    def _list(self, argument: bytes, about: Callable[[int], bytes]) -> None:
        if not argument:
            self._reply_lines(
                "list follows", (b"%d %b" % (index + 1, about(index)) for index in self._kept())
            )
        elif (index := self._index(argument)) is not None:
            self._reply(f"+OK {index + 1} {about(index).decode('ascii')}")

    def _show(self, argument: bytes, body_lines: int | None) -> None:
        """Send a message; with body_lines only its header, the empty line and that many more."""
        if (index := self._index(argument)) is None:
            return
        try:
            lines = read_lines(self._messages[index])
        except OSError as error:
            ucspi.log(f"cannot read a message: {error}")
            self._reply("-ERR the message cannot be read")
            return
        if body_lines is not None:
            header = lines.index(b"") if b"" in lines else len(lines)
            lines = lines[: header + 1 + body_lines]
        self._reply_lines("message follows", lines)

    def _top(self, argument: bytes) -> None:
        number, _, count = argument.partition(b" ")
        if count.isdigit():
            self._show(number, int(count))
        else:
            self._reply("-ERR syntax: TOP message lines")

    def _dele(self, argument: bytes) -> None:
        if (index := self._index(argument)) is not None:
            self._deleted.add(index)
            self._reply("+OK removed at QUIT")

    def _rset(self, _argument: bytes) -> None:
        self._deleted.clear()
        self._reply("+OK nothing will be removed")

    def _quit(self) -> None:
        try:
            for index in sorted(self._deleted):
                with contextlib.suppress(FileNotFoundError):
                    self._messages[index].unlink()
        except OSError as error:
            ucspi.log(f"cannot remove a message: {error}")
            self._status = ucspi.TEMPORARY
            self._reply("-ERR some messages could not be removed")
        else:
            self._reply("+OK goodbye")


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a message without their line feeds. Raises OSError."""
    lines = path.read_bytes().split(b"\n")
    return lines if lines[-1] else lines[:-1]


def unique_id(path: Path) -> bytes:
    """Return what names the message in every session, 70 printable bytes at most: RFC 1939, 7 (UIDL)."""
    name = path.name.partition(":")[0]
    return name.encode("ascii", "replace")[:UID_LENGTH]


def main() -> NoReturn:
    """Serve the client on descriptors 0 and 1, and exit."""
    ucspi.run(serve)


if __name__ == "__main__":
    main()
