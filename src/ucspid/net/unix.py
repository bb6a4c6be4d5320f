"""Clients over Unix sockets: who they are is what the kernel says of their process. No I/O."""

import posixpath
import re
from typing import NamedTuple, Self

from ucspid.records import dataclass

PREFIX = "unix:"
"""What stands before a path, or an @ and a name, where other sockets have an address and a port."""

MAX_PATH = 107
"""Bytes that the path of a socket may have, unix(7)."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_CLIENT = re.compile(r"unix:uid=([0-9]+)(?:,gid=([0-9]+))?")
_USER = "a user is unix:uid=NUMBER"
MAX_NUMBER = (1 << 32) - 1
"""Of users and groups; it is nobody's."""


class UnixClient(str):
    """What stands in the place of a client's address: unix:uid=1000.

    It is a text without the process, so that all connections of one user are of one client. uid, gid and pid
    are those of the process at its connect(2), socket(7) SO_PEERCRED; pid is 0 if it is not of our namespace.
    """

    __slots__ = ("gid", "pid", "uid")
    uid: int
    gid: int
    pid: int

    @classmethod
    def of(cls, uid: int, gid: int, pid: int = 0) -> Self:
        """Return the client that a process is."""
        client = cls(f"{PREFIX}uid={uid}")
        client.uid, client.gid, client.pid = uid, gid, pid
        return client


class UnixUser(NamedTuple):
    """All clients over Unix sockets that are one user."""

    uid: int

    def __str__(self) -> str:
        """Return the form of a UnixClient: unix:uid=1000."""
        return f"{PREFIX}uid={self.uid}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what str() has returned. Raises ValueError."""
        try:
            uid, gid = parse_client(text)
        except ValueError:
            raise ValueError(f"{text}: {_USER}") from None
        if gid is not None:
            raise ValueError(f"{text}: {_USER}")
        return cls(uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketFile:
    """The path of a Unix socket, its permissions, and who owns it; None is who starts the daemon."""

    path: str
    mode: int = 0o666
    uid: int | None = None
    gid: int | None = None


class UnixClients:
    """All clients over Unix sockets, or those of one user."""

    def __init__(self, text: str) -> None:
        """Take unix: or unix:uid=NUMBER. Raises ValueError."""
        user = text.removeprefix(f"{PREFIX}uid=")
        if text != PREFIX and not (user != text and is_number(user)):
            raise ValueError(f"{text} is neither unix: nor unix:uid=NUMBER")
        self._text = text

    def __contains__(self, client: str) -> bool:
        """Return whether a client, as logs show it, is one of them."""
        return client.startswith(PREFIX) if self._text == PREFIX else client == self._text


def shortest(path: str) -> str:
    """Return the one form of a whole path that has no //, . or .. in it."""
    return "/" + posixpath.normpath(path).lstrip("/")


def parse_client(text: str) -> tuple[int, int | None]:
    """Return user and group of unix:uid=NUMBER or unix:uid=NUMBER,gid=NUMBER. Raises ValueError."""
    found = _CLIENT.fullmatch(text)
    if found is None or not all(is_number(number) for number in found.groups() if number is not None):
        raise ValueError(
            f"{text}: a client over a Unix socket is unix:uid=NUMBER or unix:uid=NUMBER,gid=NUMBER"
        )
    uid, gid = found.groups()
    return int(uid), None if gid is None else int(gid)


def is_number(text: str) -> bool:
    """Return whether a text is the number of a user or a group, in its usual form."""
    return _NUMBER.fullmatch(text) is not None and int(text) <= MAX_NUMBER
