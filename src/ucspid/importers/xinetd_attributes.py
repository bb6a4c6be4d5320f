"""What an entry of xinetd.conf says in the end: with the defaults, and with what += and -= make of lists."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ucspid.importers.description import SourceLine
from ucspid.importers.xinetd_syntax import XinetdEntry, XinetdLine

MODIFIABLE = {
    "log_on_success", "log_on_failure", "only_from", "no_access", "passenv", "env", "disabled",
    "enabled",
}  # fmt: skip
"""Lists to which += adds, and from which -= takes."""

SERVICE = MODIFIABLE - {"disabled", "enabled"} | {
    "socket_type", "protocol", "wait", "user", "group", "server", "server_args", "instances", "log_type",
    "access_times", "type", "rpc_version", "rpc_number", "id", "port", "flags", "nice", "redirect", "banner",
    "bind", "interface", "per_source", "groups", "banner_success", "banner_fail", "cps", "disable",
    "max_load",
    "rlimit_as", "rlimit_cpu", "rlimit_data", "rlimit_rss", "rlimit_stack", "rlimit_files", "v6only",
    "deny_time", "umask", "mdns", "libwrap",
}  # fmt: skip
"""What an entry of a service may say."""

DEFAULTS = {
    "log_type", "log_on_success", "log_on_failure", "disabled", "no_access", "only_from", "instances",
    "passenv", "banner", "bind", "interface", "per_source", "groups", "banner_success", "banner_fail",
    "cps", "enabled", "max_load", "v6only", "umask", "mdns",
}  # fmt: skip
"""What the defaults may say, and an entry without them has from there."""


class XinetdValue(NamedTuple):
    """The words of an attribute, and where the last of its lines is."""

    place: SourceLine
    words: list[str]


class XinetdAttributes(dict[str, XinetdValue]):
    """The attributes of an entry by name; ignored has the lines that xinetd does not take."""

    def __init__(self, allowed: set[str], base: Mapping[str, XinetdValue] | None = None) -> None:
        """Begin with what is there without an entry; only allowed names are taken."""
        super().__init__(base or {})
        self._allowed = allowed
        self._said: set[str] = set()
        self.ignored: list[tuple[XinetdLine, str]] = []

    def apply(self, attributes: Iterable[XinetdLine], *, cumulative: bool = False) -> None:
        """Take the lines of an entry; cumulative, = is += for lists, as the defaults have it."""
        for line in attributes:
            name = "bind" if line.name == "interface" else line.name
            if line.name not in self._allowed:
                self.ignored.append((line, f"{line.name} is no attribute of this entry"))
            elif name not in MODIFIABLE and name in self._said:
                self.ignored.append((line, f"{name} is set already"))
            elif name not in MODIFIABLE and line.operator != "=":
                self.ignored.append((line, f"{name} is not a list to which {line.operator} applies"))
            else:
                self._set(name, line, cumulative=cumulative)
                self._said.add(name)

    def _set(self, name: str, line: XinetdLine, *, cumulative: bool) -> None:
        if name not in MODIFIABLE:
            old: list[str] = []
        elif line.operator == "=" and not cumulative:
            old = []
        else:
            old = self[name].words if name in self else []
        if line.operator == "-=":
            self[name] = XinetdValue(line.place, [word for word in old if word not in line.values])
        else:
            self[name] = XinetdValue(line.place, [*old, *line.values])

    def words(self, name: str) -> list[str]:
        """Return the words of an attribute, none if it is not there."""
        return self[name].words if name in self else []

    def first(self, name: str, otherwise: str = "") -> str:
        """Return the first word of an attribute."""
        return next(iter(self.words(name)), otherwise)


def with_defaults(
    entry: XinetdEntry, so_far: XinetdAttributes, in_the_end: XinetdAttributes
) -> XinetdAttributes:
    """Return what a service has: lists begin with the defaults above it, others have those of the file."""
    base = {name: value for name, value in so_far.items() if name in MODIFIABLE & SERVICE}
    made = XinetdAttributes(SERVICE, base)
    made.apply(entry.attributes)
    for name, value in in_the_end.items():
        if name not in MODIFIABLE and name in SERVICE:
            made.setdefault(name, value)
    return made
