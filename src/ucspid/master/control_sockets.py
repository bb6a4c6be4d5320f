"""The control socket and the status page's listener: bound by the master, which holds them whatever dies.

That of an earlier plan stays until the loop serves another: whoever has asked for a reload over it is
answered over it.
"""

import contextlib
import os
import socket

from ucspid.errors import ResourceError
from ucspid.linux.fd_limit import why
from ucspid.master.listeners import listen_on
from ucspid.master.unix_sockets import OWNER_ONLY, bound
from ucspid.net.endpoint import Endpoint
from ucspid.net.unix import PREFIX
from ucspid.plan import Web

MODE = OWNER_ONLY
PAGE_MODE = 0o666
"""Of the status page's socket: whoever reaches its folder may look, as with a port."""
BACKLOG = 64


def open_control(path: str, group: int | None = None, mode: int = MODE) -> socket.socket:
    """Listen on the control socket, which gets a group and a mode; that of a daemon that is gone is replaced.

    Its folder is made if it is missing, but not what that would be in.
    Raises ResourceError, also when a daemon answers there.
    """
    try:
        sock = _bound(path)
    except OSError as problem:
        raise ResourceError(f"cannot listen on control socket {path}: {why(problem)}") from None
    try:
        _set_access(path, group, mode)
    except OSError as problem:
        close_control(path, sock)
        raise ResourceError(f"cannot set who may use control socket {path}: {why(problem)}") from None
    return sock


def _set_access(path: str, group: int | None, mode: int) -> None:
    os.chown(path, -1, os.getegid() if group is None else group)
    os.chmod(path, mode)


def _bound(path: str) -> socket.socket:
    sock = bound(path)
    try:
        sock.listen(16)
    except BaseException:
        sock.close()
        raise
    return sock


def open_page(listen: str) -> socket.socket:
    """Listen where the status page is to be: address:port, or unix: and a path. Raises ResourceError."""
    try:
        if listen.startswith(PREFIX):
            path = listen.removeprefix(PREFIX)
            sock = _bound(path)
            os.chmod(path, PAGE_MODE)
            return sock
        return listen_on(Endpoint.parse(listen), BACKLOG)
    except OSError as problem:
        raise ResourceError(f"cannot listen on {listen} for the status page: {why(problem)}") from None


def close_control(where: str, sock: socket.socket) -> None:
    """Close a socket, and remove its path, if it has one."""
    sock.close()
    path = where.removeprefix(PREFIX)
    if path.startswith("/"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


class ControlSockets:
    """Both by where they are: of the plan in force, and of the one before until that is served."""

    def __init__(self, sockets: dict[str, socket.socket] | None = None) -> None:
        """Hold none, or these."""
        self._sockets = {} if sockets is None else sockets

    def at(self, path: str | None) -> socket.socket | None:
        """Return the socket at a path."""
        return None if path is None else self._sockets.get(path)

    def acquire(
        self, path: str | None, group: int | None = None, mode: int = MODE
    ) -> dict[str, socket.socket]:
        """Return what a plan needs that is not held yet, by its path. Raises ResourceError."""
        return {} if path is None or path in self._sockets else {path: open_control(path, group, mode)}

    def add(self, acquired: dict[str, socket.socket]) -> None:
        """Hold what was acquired, too."""
        self._sockets.update(acquired)

    def acquire_page(self, web: Web | None) -> dict[str, socket.socket]:
        """Return the listener of the status page, if a plan needs one that is not held yet, by where it is.

        Raises ResourceError.
        """
        if web is None or web.listen in self._sockets:
            return {}
        return {web.listen: open_page(web.listen)}

    def keep(
        self, path: str | None, group: int | None = None, mode: int = MODE, page: Web | None = None
    ) -> None:
        """Close all but the one at a path, for whom its group and mode let in, and the status page's."""
        if path is not None:
            with contextlib.suppress(OSError):  # somebody may have removed its path
                _set_access(path, group, mode)
        for old in self._sockets.keys() - {path, page and page.listen}:
            close_control(old, self._sockets.pop(old))

    def to_state(self) -> list[tuple[str, int]]:
        """Return paths and descriptors: for the next image of the master."""
        return [(path, sock.fileno()) for path, sock in self._sockets.items()]

    @classmethod
    def from_state(cls, state: list[tuple[str, int]]) -> "ControlSockets":
        """Return what an earlier image of the master held."""
        return cls({path: socket.socket(fileno=descriptor) for path, descriptor in state})
