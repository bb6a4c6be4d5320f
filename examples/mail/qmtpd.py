"""A QMTP server for one mailbox: python3 qmtpd.py [MAILDIR], the client on descriptors 0 and 1.

QMTP is D. J. Bernstein's Quick Mail Transfer Protocol (https://cr.yp.to/proto/qmtp.txt):
the client sends packages of three netstrings (message, sender, list of recipients) without
waiting; the server answers each package with one netstring for each recipient, in order.
"""

import re
from pathlib import Path
from typing import NamedTuple, NoReturn

import maildir
import ucspi

ADDRESSES_LIMIT = 64 * 1024
"""Most bytes in a sender and in a list of recipients."""

BLOCK = 64 * 1024

MAX_LENGTH = 9
LENGTH = re.compile(rb"(0|[1-9][0-9]{0,7}):")
"""How a netstring begins. A message too big is refused only when all of it has come: hence not any length."""

ACCEPTED = "K message stored"
FAILED = "Z4.3.0 cannot store the message, try again later"


class MalformedError(Exception):
    """The client does not speak QMTP: where the next package would begin cannot be known."""


class Package(NamedTuple):
    """A message with its envelope; the message is None where it was too big to keep."""

    message: bytes | None
    sender: bytes
    recipients: list[bytes]


def serve(connection: ucspi.Connection, box: Path) -> int:
    """Answer packages until the client ends; return the exit status. Raises what the connection raises."""
    status = ucspi.OK
    while True:
        try:
            first = connection.read(1)
        except EOFError:
            return status
        try:
            package = read_package(connection, first)
        except MalformedError:
            ucspi.log("not QMTP: malformed netstring")
            return ucspi.DROPPED
        text, problem = stored_form(package)
        answers = [problem] * len(package.recipients) if problem else verdicts(package.recipients)
        if ACCEPTED in answers and not stored(box, package.sender, text):
            answers = [FAILED if verdict == ACCEPTED else verdict for verdict in answers]
            status = ucspi.TEMPORARY
        connection.send(b"".join(netstring(verdict.encode("ascii")) for verdict in answers))


def stored_form(package: Package) -> tuple[bytes, str]:
    """Return the message with line feeds, and the answer that refuses it or "".

    Its first byte says how its lines end: with LF (the byte is LF) or with CR LF (it is CR).
    """
    message = package.message
    if message is None:
        return b"", "D5.3.4 message too big"
    if not maildir.is_address(package.sender):
        return b"", "D5.1.7 not a sender address"
    if message[:1] == b"\n":
        return message[1:], ""
    if message[:1] == b"\r":
        return message[1:].replace(b"\r\n", b"\n"), ""
    return b"", "D5.6.0 a message begins with LF or CR"


def verdicts(recipients: list[bytes]) -> list[str]:
    """Return the answer to each recipient: K accepted, Z try again later, D never."""
    answers: list[str] = []
    room = maildir.MAX_RECIPIENTS
    for recipient in recipients:
        if not maildir.is_ours(recipient):
            answers.append("D5.1.1 no such mailbox here")
        elif room == 0:
            answers.append("Z4.5.3 too many recipients")
        else:
            room -= 1
            answers.append(ACCEPTED)
    return answers


def stored(box: Path, sender: bytes, text: bytes) -> bool:
    """Deliver the message; return whether that worked."""
    try:
        maildir.deliver(box, sender=sender, trace=ucspi.received("QMTP"), message=text)
    except OSError as error:
        ucspi.log(f"cannot deliver: {error}")
        return False
    return True


def read_package(connection: ucspi.Connection, first: bytes) -> Package:
    """Read a package whose first byte is read already. Raises MalformedError."""
    size = read_length(connection, first)
    message: bytes | None = None
    if size <= maildir.MAX_MESSAGE + 1:
        message = connection.read(size)
    else:
        for start in range(0, size, BLOCK):
            connection.read(min(BLOCK, size - start))
    read_comma(connection)
    sender = read_addresses(connection)
    return Package(message, sender, split(read_addresses(connection)))


def read_addresses(connection: ucspi.Connection) -> bytes:
    """Read the netstring of a sender or of the list of recipients. Raises MalformedError."""
    size = read_length(connection, connection.read(1))
    if size > ADDRESSES_LIMIT:
        raise MalformedError
    data = connection.read(size)
    read_comma(connection)
    return data


def read_length(connection: ucspi.Connection, first: bytes) -> int:
    """Read the length that begins a netstring, up to its colon. Raises MalformedError."""
    text = first
    while text[-1:].isdigit() and len(text) < MAX_LENGTH:
        text += connection.read(1)
    match = LENGTH.fullmatch(text)
    if match is None:
        raise MalformedError
    return int(match[1])


def read_comma(connection: ucspi.Connection) -> None:
    """Read the comma that ends a netstring. Raises MalformedError."""
    if connection.read(1) != b",":
        raise MalformedError


def split(data: bytes) -> list[bytes]:
    """Return the netstrings of which the data is made. Raises MalformedError."""
    found: list[bytes] = []
    end = 0
    while end < len(data):
        match = LENGTH.match(data, end)
        if match is None:
            raise MalformedError
        end = match.end() + int(match[1]) + 1
        if data[end - 1 : end] != b",":
            raise MalformedError
        found.append(data[match.end() : end - 1])
    return found


def netstring(data: bytes) -> bytes:
    """Return the data as a netstring (https://cr.yp.to/proto/netstrings.txt)."""
    return b"%d:%b," % (len(data), data)


def main() -> NoReturn:
    """Serve the client on descriptors 0 and 1, and exit."""
    ucspi.run(serve)


if __name__ == "__main__":
    main()
