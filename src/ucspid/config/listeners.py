"""Which addresses cannot be listened on together, as Linux decides it in listen(2).

A wildcard address takes the port of every address of its family; the dual wildcard is one of
both families; an IPv6 wildcard of its own (IPV6_V6ONLY) leaves IPv4 alone. Port 0 never clashes, and a Unix
socket with itself only.
"""

from ucspid.net.endpoint import Endpoint

_WILDCARDS = {"0.0.0.0", "::", ""}  # noqa: S104


class Listeners:
    """The addresses taken so far, each with the path of the key that took it."""

    def __init__(self) -> None:
        """Start with none taken."""
        self._taken: dict[tuple[str, int], dict[str, tuple[Endpoint, str]]] = {}

    def take(self, address: Endpoint, path: str) -> tuple[Endpoint, str] | None:
        """Take an address; return the address that is in its way, and its path, if there is one."""
        if address.chosen:
            return None
        families = ("inet", "inet6") if address.family == "dual" else (address.family,)
        host = "*" if address.host in _WILDCARDS else address.host
        groups = [self._taken.setdefault((family, address.port), {}) for family in families]
        for group in groups:
            if clash := _clash(group, host):
                return clash
        for group in groups:
            group[host] = (address, path)
        return None


def _clash(group: dict[str, tuple[Endpoint, str]], host: str) -> tuple[Endpoint, str] | None:
    if host == "*":
        return next(iter(group.values()), None)
    return group.get("*") or group.get(host)
