"""As whom services and the event loop run: names of the file to numbers of the system."""

import os
from collections.abc import Callable, Sequence

from ucspid.config.accounts import MAX_GROUPS, Accounts, Identity
from ucspid.config.forms import Account
from ucspid.config.problems import Problems
from ucspid.records import dataclass, field

PathOfKey = Callable[[str], str]
"""Gives the path to report a key at."""


@dataclass(frozen=True, slots=True)
class UserIds:
    """A user, its group and its supplementary groups; None keeps what the daemon has."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None


UNCHANGED = UserIds(None, None, None)
NOBODY = Account("nobody")
_NOBODY_ID = 65534
"""What the system calls nobody, where it has no such name."""


@dataclass(slots=True)
class Identities:
    """Turns users into numbers and reports those that do not exist.

    Users can only be switched by root. Otherwise names must exist all the same, so that a file
    is found wrong before it is installed, but the daemon keeps its own.
    """

    problems: Problems
    is_root: bool
    accounts: Accounts = field(default_factory=Accounts)

    def numbers(
        self, user: Account | None, group: Account | None, groups: Sequence[Account] | None, place: PathOfKey
    ) -> UserIds | None:
        """Return the numbers; None after adding to the problems why there are none.

        Without a user the groups are checked, and nothing is switched.
        """
        identity = None if user is None else self._user(user, place("user"))
        gid = None if group is None else self._group(group, place("group"))
        named = [self._group(each, path) for path, each in self.problems.items(place("groups"), groups or ())]
        if (group is not None and gid is None) or None in named:
            return None
        if identity is None:
            return UNCHANGED if user is None else None
        if group is None:
            gid = identity.gid
        if gid is None:
            self.problems.add(place("user"), f"user id {user} is not in passwd(5): give its group too")
            return None
        if not self.is_root:
            return UNCHANGED
        own = self.accounts.login_groups(identity.name, gid) if groups is None else named
        if len(own) > MAX_GROUPS:
            text = (
                f"user {user} is in {len(own)} groups, at most {MAX_GROUPS} are allowed: name those it needs"
            )
            self.problems.add(place("user"), text)
            return None
        return UserIds(identity.uid, gid, tuple(sorted({number for number in own if number is not None})))

    def loop(self, user: Account, group: Account | None) -> UserIds:
        """Return the event loop's numbers, which are never root's."""
        why = "the event loop must not run as root; a service may, by its own user: root"
        return self.never_root(user, group, "user", why)

    def never_root(self, user: Account, group: Account | None, place: str, why: str) -> UserIds:
        """Return the numbers of a user who stands at a place; why is reported if that is root."""
        places = {"user": place, "group": "group", "groups": "groups"}
        named = user if self.is_root or self.problems.given(place) else None
        numbers = self.numbers(named, group, None, lambda key: places[key])
        if numbers is not None and numbers.uid == 0:
            self.problems.add(place, why)
        return numbers or UNCHANGED

    def switched_to(self, user: Account) -> Account | None:
        """Return the user of the file; None where it need not be there: not named, nor switched to."""
        return user if self.is_root or self.problems.given("user") else None

    def login(self, user: Account, place: PathOfKey) -> dict[str, str]:
        """Return the variables that a login of the user that the program runs as would set.

        That is whoever reads the file, where users cannot be switched. None of it, after adding to the
        problems, if passwd(5) does not have the user.
        """
        try:
            identity = self.accounts.user(user.value if self.is_root else os.geteuid())
        except LookupError:
            return {}  # reported where it is named
        if identity.name is None or identity.home is None or identity.shell is None:
            self.problems.add(place("user_env"), f"user id {identity.uid} is not in passwd(5)")
            return {}
        name = identity.name
        return {"HOME": identity.home, "USER": name, "LOGNAME": name, "SHELL": identity.shell}

    def nobody(self) -> UserIds:
        """Return the user without rights, for a look that must not be root's."""
        if not self.is_root:
            return UNCHANGED
        try:
            identity = self.accounts.user(NOBODY.value)
        except LookupError:
            return UserIds(_NOBODY_ID, _NOBODY_ID, ())
        return UserIds(identity.uid, identity.gid, ())

    def label(self, user: Account | None) -> str:
        """Return how messages name the user that looks at a file: one of the file's, or who reads it."""
        if not self.is_root:
            return f"user id {os.geteuid()}"
        return "root" if user is None else f"user {user}"

    def group(self, group: Account, path: str) -> int | None:
        """Return a group's number; None after adding to the problems that there is no such group."""
        return self._group(group, path)

    def owner(self, user: Account, path: str) -> int | None:
        """Return a user's number; None after adding to the problems that there is no such user."""
        identity = self._user(user, path)
        return None if identity is None else identity.uid

    def _user(self, user: Account, path: str) -> Identity | None:
        try:
            return self.accounts.user(user.value)
        except LookupError as error:
            self.problems.add(path, str(error.args[0]))
            return None

    def _group(self, group: Account, path: str) -> int | None:
        try:
            return self.accounts.group(group.value)
        except LookupError as error:
            self.problems.add(path, str(error.args[0]))
            return None
