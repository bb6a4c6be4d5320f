"""What a path is, by its name or by what is in it, and who imports it."""

from collections.abc import Callable

from ucspid.errors import ConfigError
from ucspid.importers.description import Description
from ucspid.importers.host import Host
from ucspid.importers.inetd import import_inetd

_INETD_FIELDS = 6
Importer = Callable[[list[str], str, Host, Description], None]


def import_path(path: str, host: Host, description: Description) -> None:
    """Add what a path describes. Raises OSError, ConfigError if it is of no known kind."""
    lines = host.lines(path)
    importer = _importer(path, lines)
    if importer is None:
        raise ConfigError([f"{host.label(path)}: not a configuration that ucspid import knows"])
    importer(lines, host.label(path), host, description)


def _importer(path: str, lines: list[str]) -> Importer | None:
    name = path.rpartition("/")[2]
    if name.startswith("inetd") or _looks_like_inetd(lines):
        return import_inetd
    return None


def _looks_like_inetd(lines: list[str]) -> bool:
    entries = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return any(
        len(words) >= _INETD_FIELDS
        and words[1] in {"stream", "dgram"}
        and words[3].startswith(("wait", "nowait"))
        for words in entries
    )
