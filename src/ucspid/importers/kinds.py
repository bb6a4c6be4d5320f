"""What a path is, by its name or by what is in it, and who imports it."""

import re
from collections.abc import Callable

from ucspid.errors import ConfigError
from ucspid.importers import ipsvd, run_script, s6_rules, tcprules_source
from ucspid.importers.description import Description
from ucspid.importers.host import Host, text_lines
from ucspid.importers.hosts_access import Wrapper, read_wrappers
from ucspid.importers.inetd import import_inetd
from ucspid.importers.systemd_socket import import_socket
from ucspid.importers.xinetd import import_xinetd, import_xinetd_directory

Importer = Callable[[list[str], str, Host, Description], None]

_INETD_FIELDS = 6
_XINETD = re.compile(r"\s*(?:service\s+\S+|defaults|include\s+/\S+|includedir\s+/\S+)\s*")


class Wrappers:
    """The lines of hosts.allow and hosts.deny; those of the former come first, whichever was read first."""

    def __init__(self) -> None:
        """Begin without any."""
        self.allow: list[Wrapper] = []
        self.deny: list[Wrapper] = []


def import_path(path: str, host: Host, description: Description, wrappers: Wrappers) -> None:
    """Add what a path describes. Raises OSError, ConfigError if it is of no known kind."""
    if host.is_directory(path):
        _import_directory(path.rstrip("/") or "/", host, description)
        return
    if path.endswith("@.service"):
        path = f"{path.removesuffix('@.service')}.socket"
    data, name = host.read(path), path.rpartition("/")[2]
    if name.endswith(".cdb"):
        _importer_of_cdb(data, host.label(path))(data, path, host, description)
        return
    lines = text_lines(data, host.label(path))
    if name in {"hosts.allow", "hosts.deny"}:
        allow = name == "hosts.allow"
        (wrappers.allow if allow else wrappers.deny).extend(read_wrappers(lines, path, host, allow=allow))
        return
    importer = _importer(name, lines)
    if importer is not None:
        importer(lines, path, host, description)
    elif tcprules_source.is_text(lines, host.label(path)):
        tcprules_source.import_tcprules(data, path, host, description)
    else:
        raise ConfigError([f"{host.label(path)}: not a configuration that ucspid import knows"])


def _import_directory(path: str, host: Host, description: Description) -> None:
    names = host.entries(path)
    if set(names) & set(s6_rules.FOLDERS):
        s6_rules.import_s6_rules(path, host, description)
        return
    sockets = [name for name in names if name.endswith(".socket")]
    scripts = [f"{path}/run", *(f"{path}/{name}/run" for name in names if not name.startswith("."))]
    scripts = [script for script in scripts if host.is_file(script)]
    files = [f"{path}/{name}" for name in names if "." not in name and host.is_file(f"{path}/{name}")]
    if scripts:
        for script in scripts:
            run_script.import_script(host.lines(script), script, host, description)
    elif sockets:
        for name in sockets:
            import_socket(f"{path}/{name}", host, description)
    elif any(_looks_like_xinetd(host.lines(file)) for file in files[:1]):
        import_xinetd_directory(path, host, description)
    elif ipsvd.is_folder(names):
        ipsvd.import_instructions(path, host, description)
    else:
        raise ConfigError([f"{host.label(path)}: not a directory that ucspid import knows"])


def _importer_of_cdb(data: bytes, label: str) -> Callable[[bytes, str, Host, Description], None]:
    if s6_rules.is_s6_cdb(data, label):
        return s6_rules.import_s6_cdb
    if ipsvd.is_ipsvd_cdb(data, label):
        return ipsvd.import_instructions_cdb
    return tcprules_source.import_tcprules


def _importer(name: str, lines: list[str]) -> Importer | None:
    if run_script.is_script(lines):
        return run_script.import_script
    if name.endswith(".socket"):
        return lambda _lines, path, host, description: import_socket(path, host, description)
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
