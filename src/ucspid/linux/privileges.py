"""Taking a privilege profile: once, at a launcher's start, in one order, any failure fatal.

Called by a launcher before it says ready, and by the configuration reader in a child of its
own, so that a program is looked for with exactly the rights it will be started with.
"""

import os
import resource
from collections.abc import Callable, Iterator
from functools import partial

from ucspid.linux.prctl import forbid_new_privileges
from ucspid.profile import Profile

RLIMITS = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_")
}
"""Number of each limit of setrlimit(2) by its name in the configuration file."""


class CannotTake(Exception):  # noqa: N818
    """The system refuses a privilege; the text says why.

    field is one of Profile, rlimits.NAME for a limit.
    """

    def __init__(self, field: str, problem: OSError | ValueError) -> None:
        """Say what the system said; setrlimit's EPERM and EINVAL come as ValueError."""
        reason, file = (problem.strerror, problem.filename) if isinstance(problem, OSError) else (None, None)
        super().__init__(": ".join([*([file] if file else []), reason or str(problem)]))
        self.field = field


def take(profile: Profile) -> None:
    """Take the privileges. Raises CannotTake for the first that the system refuses.

    The working directory is entered with the previous rights, so that a program can be
    reached below a directory that its user could not walk to. Every limit is set both soft
    and hard, but for cpu: that is the programs' soft limit alone, and only tried here. The launcher
    itself lives under the others.
    """
    for refused in _refusals(profile):
        raise refused


def attempt(profile: Profile, begins: Callable[[str], object]) -> list[CannotTake]:
    """Take those privileges that the system does not refuse, in the order of take(); return the others.

    begins() is called before each, with its field.
    """
    return list(_refusals(profile, begins))


def _refusals(profile: Profile, begins: Callable[[str], object] = str) -> Iterator[CannotTake]:
    for field, step in _steps(profile):
        begins(field)
        try:
            step()
        except (OSError, ValueError) as problem:
            yield CannotTake(field, problem)


def _steps(profile: Profile) -> Iterator[tuple[str, Callable[[], object]]]:
    if profile.no_new_privs:
        yield "no_new_privs", forbid_new_privileges
    if profile.nice is not None:
        yield "nice", partial(os.setpriority, os.PRIO_PROCESS, 0, profile.nice)
    if profile.root is not None:
        yield "root", partial(_change_root, profile.root)
    if profile.cwd is not None:
        yield "cwd", partial(os.chdir, profile.cwd)
    for name, value in profile.rlimits:
        yield f"rlimits.{name}", partial(_limit, RLIMITS[name], value)
    if profile.groups is not None:
        yield "groups", partial(os.setgroups, profile.groups)
    if profile.gid is not None:
        yield "gid", partial(os.setresgid, profile.gid, profile.gid, profile.gid)
    if profile.uid is not None:
        yield "uid", partial(_become, profile.uid)
    if profile.umask is not None:
        yield "umask", partial(os.umask, profile.umask)


def _limit(number: int, value: int | None) -> None:
    limit = resource.RLIM_INFINITY if value is None else value
    own = resource.getrlimit(number)
    if number == resource.RLIMIT_CPU:
        resource.setrlimit(number, (limit, own[1]))
        resource.setrlimit(number, own)
    else:
        resource.setrlimit(number, (limit, limit))


def _change_root(path: str) -> None:
    os.chroot(path)
    os.chdir("/")


def _become(uid: int) -> None:
    os.setresuid(uid, uid, uid)
    if uid and _can_regain_root():
        raise PermissionError(f"user id {uid} can still become root")


def _can_regain_root() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return False
    return True
