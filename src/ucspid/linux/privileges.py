"""Taking a privilege profile: once, at a launcher's start, in one order, any failure fatal.

Called by a launcher before it says ready, and by the configuration reader in a child of its
own, so that a program is looked for with exactly the rights it will be started with.
"""

import os
import resource

RLIMITS = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_")
}
"""Number of each limit of setrlimit(2) by its name in the configuration file."""


def take(  # noqa: PLR0913 - one for each privilege
    *,
    uid: int | None,
    gid: int | None,
    groups: list[int] | None,
    umask: int | None,
    cwd: str | None,
    root: str | None,
    nice: int | None,
    rlimits: list[tuple[str, int | None]],
) -> None:
    """Take the privileges; None leaves as it is. Raises OSError where the system refuses.

    The working directory is entered with the rights of before, so that a program can be
    reached below a directory that its user could not walk to. Every limit is set both soft
    and hard, but for cpu: that is the programs' soft limit alone, and only tried here. The launcher
    itself lives under the others.
    """
    if nice is not None:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    if root is not None:
        os.chroot(root)
    if cwd is not None or root is not None:
        os.chdir(cwd or "/")
    for name, value in rlimits:
        _limit(RLIMITS[name], resource.RLIM_INFINITY if value is None else value)
    if groups is not None:
        os.setgroups(groups)
    if gid is not None:
        os.setresgid(gid, gid, gid)
    if uid is not None:
        os.setresuid(uid, uid, uid)
    if umask is not None:
        os.umask(umask)
    if uid and _can_regain_root():
        raise PermissionError(f"user id {uid} can still become root")


def _limit(number: int, value: int) -> None:
    own = resource.getrlimit(number)
    if number == resource.RLIMIT_CPU:
        resource.setrlimit(number, (value, own[1]))
        resource.setrlimit(number, own)
    else:
        resource.setrlimit(number, (value, value))


def _can_regain_root() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return False
    return True
