"""Unix sockets that listen: nobody gets in too early, and only paths of our own are removed."""

import contextlib
import errno
import os
import select
import socket
import stat

from ucspid.net.endpoint import Endpoint
from ucspid.net.unix import SocketFile

OWNER_ONLY = 0o600
"""Permissions of a socket whose own are not set yet."""
FOLDER_MODE = 0o755

FileId = tuple[int, int]
"""Device and inode of a path, by which we know that it is the one that we made."""


def bound(name: str) -> socket.socket:
    """Return a socket at a path, or at an @ and a name; nobody but its owner may use it, who is as we are.

    The folder is made if it is missing, but not what that would be in. Raises OSError: EADDRINUSE with what
    is in the way.
    """
    named = name.startswith("@")
    if not named:
        make_room(name)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o777 & ~OWNER_ONLY)
    try:
        sock.bind(b"\0" + os.fsencode(name[1:]) if named else name)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def make_room(path: str) -> None:
    """Make the folder of a socket, and remove a socket that nobody has open any more.

    Raises OSError: EADDRINUSE with what is in the way.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.dirname(path), FOLDER_MODE)
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EADDRINUSE, f"{path} exists, but is not a socket")
    except FileNotFoundError:
        return
    if answers(path):
        raise OSError(errno.EADDRINUSE, "a server answers there already")
    os.unlink(path)


def answers(path: str) -> bool:
    """Return whether anybody has a socket open: one whose queue is full, or that is of another type, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as problem:
            if problem.errno in (errno.EAGAIN, errno.EPROTOTYPE):
                return True
            raise
    return True


def is_shut_down(sock: socket.socket) -> bool:
    """Return whether somebody has shut a listener down: for a Unix socket there is no way back."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def id_of(path: str) -> FileId:
    """Return what a socket's path is now. Raises OSError, also if it is no socket any more."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.ESTALE, f"{path} is not what was made there")
    return found.st_dev, found.st_ino


def let_in(file: SocketFile, ours: FileId) -> None:
    """Give a socket of ours its owner and its permissions. Raises OSError, also if it is gone."""
    descriptor = os.open(file.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != ours:
            raise OSError(errno.ESTALE, f"{file.path} is not what was made there")
        path = f"/proc/self/fd/{descriptor}"  # so that it is this one, whatever is there meanwhile
        uid = os.geteuid() if file.uid is None else file.uid
        gid = os.getegid() if file.gid is None else file.gid
        if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, file.mode):
            return
        if found.st_uid != os.geteuid():
            os.chown(path, os.geteuid(), -1)  # so that chmod(2) does not need CAP_FOWNER
        os.chmod(path, file.mode)
        os.chown(path, uid, gid)
    finally:
        os.close(descriptor)


def remove(path: str, ours: FileId) -> None:
    """Remove a socket, if it is still the one that we made."""
    with contextlib.suppress(OSError):
        if id_of(path) == ours:
            os.unlink(path)


def address_of(sock: socket.socket) -> Endpoint:
    """Return where a socket listens, as a file has it."""
    name = sock.getsockname()
    text = os.fsdecode(name) if isinstance(name, str) else f"@{os.fsdecode(name[1:])}"
    return Endpoint(f"unix:{text}", 0)
