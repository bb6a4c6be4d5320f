"""The one mailbox of the example, a Maildir: whose it is, what it takes, how mail gets in and is found.

A message is written under tmp/ and renamed into new/ when all of it is on the disk: a
reader never sees a part of it, and neither writers nor readers need a lock. Lines end
with a line feed in the files; what the network wants is made from that on the way out.
"""

import contextlib
import itertools
import os
import re
import time
from pathlib import Path

import ucspi

MAX_MESSAGE = 1 << 20
"""Largest message in bytes, as the client sends it."""

MAX_RECIPIENTS = 100
"""Most recipients of one message; RFC 5321 (4.5.3.1.8) asks for no less."""

_USERS = (b"you", b"postmaster")
"""Whose mail goes into the mailbox. Every host must take mail for postmaster: RFC 5321, 4.5.1."""
_ADDRESS = re.compile(rb"[ -;=?-~]{0,256}")
_sequence = itertools.count(1)


def is_ours(recipient: bytes) -> bool:
    """Say whether mail for this address belongs into the mailbox: of no domain, or of this host's."""
    user, at, domain = recipient.lower().partition(b"@")
    return user in _USERS and (not at or domain in (b"localhost", ucspi.local_name().lower().encode("ascii")))


def is_address(sender: bytes) -> bool:
    """Say whether this can stand between angle brackets in a header: printable, none of <>, at most 256."""
    return _ADDRESS.fullmatch(sender) is not None


def deliver(maildir: Path, *, sender: bytes, trace: bytes, message: bytes) -> None:
    """Put the message into new/, after a Return-Path and the trace field; make the Maildir if it is missing.

    It is on the disk when this returns. Raises OSError where the Maildir cannot be written.
    """
    maildir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("tmp", "new", "cur"):
        (maildir / name).mkdir(mode=0o700, exist_ok=True)
    name = _unique_name()
    temporary = maildir / "tmp" / name
    try:
        _write(temporary, b"Return-Path: <" + sender + b">\n" + trace + message)
        temporary.rename(maildir / "new" / name)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(maildir / "new")
    ucspi.log(f"delivered {len(message)} bytes from <{sender.decode('ascii')}>")


def messages(maildir: Path) -> list[Path]:
    """Return the messages, oldest first; none if there is no Maildir yet. Raises OSError."""
    found: list[Path] = []
    for name in ("new", "cur"):
        with contextlib.suppress(FileNotFoundError):
            found += (maildir / name).iterdir()
    return sorted(
        (path for path in found if path.name[0] != "." and path.is_file()), key=lambda path: path.name
    )


def _unique_name() -> str:
    """Return a name that no other delivery has: time, process, count of this process, host."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    host = re.sub(r"[^A-Za-z0-9.-]", "_", os.uname().nodename)[:20]
    return f"{seconds}.M{nanoseconds // 1000:06}P{os.getpid()}Q{next(_sequence)}.{host}"


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
