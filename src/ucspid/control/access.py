"""Who may do what over the control socket: by the kernel's word for the client, and the socket's mode."""

import enum
import socket
import struct
from array import array

from ucspid.records import dataclass

_UCRED = struct.Struct("=iII")  # pid, uid, gid: unix(7), SO_PEERCRED
_PEER_GROUPS = 59
"""SO_PEERGROUPS of Linux 4.13."""
_MAX_GROUPS = 256
"""As many as getsockopt() of Python has room for; of a user who is in more, the first group counts."""
_READ, _WRITE = 0o4, 0o2


class Rights(enum.IntEnum):
    """What a client may do; each includes the one before."""

    NONE = 0
    LOOK = 1
    CHANGE = 2


@dataclass(frozen=True, slots=True)
class ControlAccess:
    """Root and the owner of the socket may do everything.

    Whom else the mode lets in, by the group or as anybody, may change things if the mode has r and w
    for them; with w alone, which is what connect(2) needs, they may look.
    """

    owner: int
    group: int | None = None
    mode: int = 0o600

    def rights(self, conn: socket.socket) -> Rights:
        """Return what a client may do. Raises OSError."""
        _, uid, gid = _UCRED.unpack(conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid in (0, self.owner):
            return Rights.CHANGE
        bits = self.mode
        if self.group is not None and self.group in {gid, *_groups(conn)}:
            bits >>= 3
        if not bits & _WRITE:
            return Rights.NONE
        return Rights.CHANGE if bits & _READ else Rights.LOOK

    @property
    def words(self) -> str:
        """Return who may do everything, for messages."""
        return "root" if self.owner == 0 else f"root or user id {self.owner}"


def user_id(conn: socket.socket) -> int:
    """Return the user id that the client had when it connected."""
    _, uid, _ = _UCRED.unpack(conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def _groups(conn: socket.socket) -> list[int]:
    """Return the supplementary groups of a client."""
    size = array("I").itemsize
    try:
        groups = conn.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, _MAX_GROUPS * size)
    except OSError:
        return []
    return list(array("I", groups))
