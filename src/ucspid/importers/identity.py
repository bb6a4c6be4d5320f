"""Whom a service runs as, from names or numbers that must be known on the host."""

from ucspid.importers.description import Imported, SourceLine
from ucspid.importers.host import Host


def run_as(service: Imported, place: SourceLine, host: Host, user: str, group: str | None = None) -> None:
    """Set user and group. One that the host does not know keeps the service from running."""
    service.settings["user"] = _written(user)
    known = host.accounts.user(user)
    if known is None and user.isdecimal():
        known = next(
            (
                ids
                for name in [host.accounts.user_name(int(user))]
                if name and (ids := host.accounts.user(name))
            ),
            None,
        )
        if known is None and group is None:
            service.cannot(
                place, f"user {user} has no entry in passwd(5), so no group", "add group: to the service"
            )
    elif known is None:
        service.cannot(place, f"there is no user {user}", "create it, or remove the service")
    if group is not None:
        set_group(service, place, host, group)


def set_group(service: Imported, place: SourceLine, host: Host, group: str) -> None:
    """Set the group."""
    service.settings["group"] = _written(group)
    if host.accounts.group(group) is None and not group.isdecimal():
        service.cannot(place, f"there is no group {group}", "create it, or remove the service")


def named_user(host: Host, uid: int) -> str | int:
    """Return a user as a file should name it: by name if it has one."""
    return host.accounts.user_name(uid) or uid


def named_group(host: Host, gid: int) -> str | int:
    """Return a group as a file should name it."""
    return host.accounts.group_name(gid) or gid


def _written(name: str) -> str | int:
    return int(name) if name.isdecimal() else name
