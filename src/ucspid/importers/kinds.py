"""What a path is, by its name or by what is in it, and who imports it."""

import re
from collections.abc import Callable

from ucspid.errors import ConfigError
from ucspid.importers.description import Description
from ucspid.importers.host import Host
from ucspid.importers.inetd import import_inetd
from ucspid.importers.xinetd import import_xinetd, import_xinetd_directory

Importer = Callable[[list[str], str, Host, Description], None]

_INETD_FIELDS = 6
_XINETD = re.compile(r"\s*(?:service\s+\S+|defaults|include\s+/\S+|includedir\s+/\S+)\s*")


def import_path(path: str, host: Host, description: Description) -> None:
    """Add what a path describes. Raises OSError, ConfigError if it is of no known kind."""
    if host.is_directory(path):
        _import_directory(path.rstrip("/") or "/", host, description)
    else:
        lines = host.lines(path)
        importer = _importer(path, lines)
        if importer is None:
            raise ConfigError([f"{host.label(path)}: not a configuration that ucspid import knows"])
        importer(lines, path, host, description)


def _import_directory(path: str, host: Host, description: Description) -> None:
    names = host.entries(path)
    files = [f"{path}/{name}" for name in names if "." not in name and host.is_file(f"{path}/{name}")]
    if any(_looks_like_xinetd(host.lines(file)) for file in files[:1]):
        import_xinetd_directory(path, host, description)
    else:
        raise ConfigError([f"{host.label(path)}: not a directory that ucspid import knows"])


def _importer(path: str, lines: list[str]) -> Importer | None:
    name = path.rpartition("/")[2]
    if name.startswith("xinetd") or _looks_like_xinetd(lines):
        return import_xinetd
    if name.startswith("inetd") or _looks_like_inetd(lines):
        return import_inetd
    return None


def _meaningful(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _looks_like_inetd(lines: list[str]) -> bool:
    return any(
        len(words) >= _INETD_FIELDS
        and words[1] in {"stream", "dgram"}
        and words[3].startswith(("wait", "nowait"))
        for words in map(str.split, _meaningful(lines))
    )


def _looks_like_xinetd(lines: list[str]) -> bool:
    return any(_XINETD.fullmatch(line) for line in _meaningful(lines)[:1])
