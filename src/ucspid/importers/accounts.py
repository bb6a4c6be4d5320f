"""Users and groups of the host whose files are read: its own, or those of another root directory."""

import grp
import pwd
from collections.abc import Iterable

_FIELDS = 4
"""Fields of a line of passwd(5) that are needed, and all of group(5)."""


class HostAccounts:
    """Names and numbers of users and groups, from files or from name services."""

    def __init__(self, passwd: Iterable[str] | None, group: Iterable[str] | None) -> None:
        """Take the lines of passwd(5) and group(5); None for those of this host."""
        self._own = passwd is None
        self._users: dict[str, tuple[int, int]] = {}
        self._groups: dict[str, int] = {}
        for name, fields in _entries(passwd or ()):
            if fields[3].isdecimal():
                self._users.setdefault(name, (int(fields[2]), int(fields[3])))
        for name, fields in _entries(group or ()):
            self._groups.setdefault(name, int(fields[2]))

    def user(self, name: str) -> tuple[int, int] | None:
        """Return the ids of a user and of its group, None if there is no such user."""
        if not self._own:
            return self._users.get(name)
        try:
            entry = pwd.getpwnam(name)
        except (KeyError, ValueError):
            return None
        return entry.pw_uid, entry.pw_gid

    def group(self, name: str) -> int | None:
        """Return the id of a group, None if there is none."""
        if not self._own:
            return self._groups.get(name)
        try:
            return grp.getgrnam(name).gr_gid
        except (KeyError, ValueError):
            return None

    def user_name(self, uid: int) -> str | None:
        """Return the name of a user, None if it has none."""
        if not self._own:
            return next((name for name, ids in self._users.items() if ids[0] == uid), None)
        try:
            return pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            return None

    def group_name(self, gid: int) -> str | None:
        """Return the name of a group, None if it has none."""
        if not self._own:
            return next((name for name, number in self._groups.items() if number == gid), None)
        try:
            return grp.getgrgid(gid).gr_name
        except (KeyError, OverflowError):
            return None


def _entries(lines: Iterable[str]) -> Iterable[tuple[str, list[str]]]:
    for line in lines:
        fields = line.split(":")
        if len(fields) >= _FIELDS and fields[2].isdecimal():
            yield fields[0], fields
