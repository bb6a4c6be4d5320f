"""The PRIVILEGES message: a launcher's first orders from the master."""

from ucspid.errors import WireError
from ucspid.ipc.messages import PEER_HEAD, PRIVILEGES, VERSION, Reader, pack_strings, unpack

_NONE = b"-"
_FIELDS = 10
_INFINITY = -1
"""As resource.RLIM_INFINITY is."""


class Orders:
    """What a launcher is to be.

    profile holds the keyword arguments of launcher.privileges.take(); nofile is the soft limit
    of descriptors for programs; orphans are the processes of a predecessor that still run.
    """

    __slots__ = ("no_new_privs", "nofile", "orphans", "profile", "title")

    def __init__(
        self,
        title: str,
        *,
        no_new_privs: bool,
        nofile: int,
        orphans: set[int],
        profile: dict[str, object],
    ) -> None:
        """Keep the orders."""
        self.title = title
        self.no_new_privs = no_new_privs
        self.nofile = nofile
        self.orphans = orphans
        self.profile = profile

    @property
    def cpu(self) -> int | None:
        """Return the soft limit of CPU time for programs, in seconds; None for the daemon's own."""
        limits: dict[str, int | None] = dict(self.profile["rlimits"])  # type: ignore[call-overload]
        return None if "cpu" not in limits else _INFINITY if limits["cpu"] is None else limits["cpu"]

    def pack(self) -> bytes:
        """Return the message."""
        profile = self.profile
        fields = [
            self.title.encode(),
            b"1" if self.no_new_privs else b"0",
            b"%d" % self.nofile,
            *(_pack(profile[name]) for name in ("uid", "gid", "umask", "nice", "cwd", "root")),
            _pack_list(profile["groups"]),
        ]
        limits = [name.encode() + b"=" + _pack(value) for name, value in profile["rlimits"]]  # type: ignore[attr-defined]
        strings = (
            pack_strings(fields) + pack_strings(limits) + pack_strings([b"%d" % pid for pid in self.orphans])
        )
        return PEER_HEAD.pack(PRIVILEGES, VERSION) + strings

    @classmethod
    def unpack(cls, packet: bytes) -> "Orders":
        """Read the message; raises WireError."""
        try:
            return cls._read(packet)
        except ValueError as problem:
            raise WireError(f"orders that cannot be read: {problem}") from None

    @classmethod
    def _read(cls, packet: bytes) -> "Orders":
        kind, version = unpack(PEER_HEAD, packet, exact=False)
        if (kind, version) != (PRIVILEGES, VERSION):
            raise WireError(f"message {kind} of version {version} where orders were due")
        reader = Reader(packet, PEER_HEAD.size)
        fields, limits, orphans = reader.strings(), reader.strings(), reader.strings()
        reader.end()
        if len(fields) != _FIELDS:
            raise WireError(f"{len(fields)} fields in orders")
        title, no_new_privs, nofile, *numbers, cwd, root, groups = fields
        uid, gid, umask, nice = (_number(item) for item in numbers)
        profile: dict[str, object] = {
            "uid": uid,
            "gid": gid,
            "umask": umask,
            "nice": nice,
            "cwd": _path(cwd),
            "root": _path(root),
            "groups": None if groups == _NONE else [int(item) for item in groups.split()],
            "rlimits": [
                (name.decode(), _number(value))
                for name, _, value in (item.partition(b"=") for item in limits)
            ],
        }
        return cls(
            title.decode(),
            no_new_privs=no_new_privs == b"1",
            nofile=int(nofile),
            orphans={int(pid) for pid in orphans},
            profile=profile,
        )


def _pack(value: object) -> bytes:
    return _NONE if value is None else str(value).encode(errors="surrogateescape")


def _pack_list(values: object) -> bytes:
    return _NONE if values is None else b" ".join(b"%d" % value for value in values)  # type: ignore[attr-defined]


def _number(item: bytes) -> int | None:
    return None if item == _NONE else int(item)


def _path(item: bytes) -> str | None:
    return None if item == _NONE else item.decode(errors="surrogateescape")
