"""Users and groups of the system, by name or number, as numbers."""

import functools
import grp
import os
import pwd

from ucspid.ipc.progress import progress
from ucspid.records import dataclass

MAX_GROUPS = 1000
"""Groups of one user or service: they are sent to a launcher and to the event loop in one packet."""

DEFAULT_SHELL = "/bin/sh"
"""Of users without one, passwd(5)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user; all but the number is None where that has no passwd entry."""

    uid: int
    gid: int | None = None
    name: str | None = None
    home: str | None = None
    shell: str | None = None


class Accounts:
    """Look-ups that ask the system once for each user and group."""

    def __init__(self) -> None:
        """Start with nothing looked up."""
        self.user = functools.cache(_user)
        self.group = functools.cache(_group)
        self.login_groups = functools.cache(_login_groups)


def _user(account: str | int) -> Identity:
    """Return the user. Raises LookupError for a name that does not exist."""
    progress.at(f"user {account}")
    try:
        entry = pwd.getpwnam(account) if isinstance(account, str) else pwd.getpwuid(account)
    except (KeyError, UnicodeEncodeError):
        if not isinstance(account, str):
            return Identity(account)
    else:
        return Identity(
            entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir, entry.pw_shell or DEFAULT_SHELL
        )
    raise LookupError(f"there is no user {account}")


def _group(account: str | int) -> int:
    """Return the group's number. Raises LookupError for a name that does not exist."""
    if isinstance(account, int):
        return account
    progress.at(f"group {account}")
    try:
        return grp.getgrnam(account).gr_gid
    except (KeyError, UnicodeEncodeError):
        raise LookupError(f"there is no group {account}") from None


def _login_groups(name: str | None, gid: int) -> tuple[int, ...]:
    """Return the groups that initgroups(3) would set, sorted; only gid for a user without a name."""
    if name is None:
        return (gid,)
    progress.at(f"the groups of user {name}")
    return tuple(sorted(set(os.getgrouplist(name, gid))))
