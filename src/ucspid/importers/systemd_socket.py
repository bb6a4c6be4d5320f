"""Socket units of systemd with Accept=yes, and the service unit that is started for each connection."""

from ucspid.importers.description import AccessRule, Description, Imported, SourceLine
from ucspid.importers.endpoints import add_endpoint, add_unix_socket, listen_on
from ucspid.importers.host import Host
from ucspid.importers.rule_sources import written
from ucspid.importers.systemd_service import set_service
from ucspid.importers.unit_files import Unit, UnitValue, find_unit, read_unit, seconds
from ucspid.net.address import parse_network

_MAX_CONNECTIONS = "64"
MAX_COUNT = 65536
_IGNORED = {
    "Accept", "Service", "FileDescriptorName", "RemoveOnStop", "TimeoutSec", "FlushPending", "Writable",
    "PassFileDescriptorsToExec", "DeferTrigger", "DeferTriggerMaxSec",
}  # fmt: skip
"""Keys that concern other units, or nothing that ucspid does otherwise."""
_OF_UNIX_SOCKETS = {"SocketUser", "SocketGroup", "SocketMode", "DirectoryMode", "Symlinks"}
"""Keys that have no effect on others."""
_RUNTIME = "%t/"
_HANDLED = {
    "ListenStream", "BindIPv6Only", "MaxConnections", "MaxConnectionsPerSource", "Backlog", "NoDelay",
    "KeepAlive", "TriggerLimitIntervalSec", "TriggerLimitBurst", "PollLimitIntervalSec", "PollLimitBurst",
    "IPAddressAllow", "IPAddressDeny",
}  # fmt: skip
_YES = {"1", "yes", "y", "true", "t", "on"}
_NO = {"0", "no", "n", "false", "f", "off"}
_SETS = {
    "any": ["0.0.0.0/0", "::/0"], "localhost": ["127.0.0.0/8", "::1"],
    "link-local": ["169.254.0.0/16", "fe80::/64"],
    "multicast": ["224.0.0.0/4", "ff00::/8"],
}  # fmt: skip


def import_socket(path: str, host: Host, description: Description) -> None:
    """Add the service of a socket unit."""
    unit = read_unit(path, host)
    name = unit.name.removesuffix(".socket")
    service = Imported(name, SourceLine(host.label(path)), comments=list(unit.comments))
    place = service.place
    _listen(service, unit, host)
    _limits(service, unit)
    if unit.text("Socket", "Accept", "no").lower() in _YES:
        template = f"{name}@.service"
        found = find_unit(template, path, host)
        service.settings["env_dialect"] = "systemd"
        if found is None:
            service.settings["program"] = [template]
            service.cannot(
                place, f"there is no {template} beside it or in systemd's directories", "name it, too"
            )
        else:
            template_unit = read_unit(found, host)
            set_service(service, template_unit, host, prefix=name)
            addresses(service, template_unit, "Service")
    else:
        value = unit.last("Socket", "Accept")
        service.settings["program"] = [unit.text("Socket", "Service", f"{name}.service")]
        service.cannot(
            value.place if value else place,
            "without Accept=yes its service gets the listening socket",
            "keep the units, or have a program that serves one connection",
        )
    addresses(service, unit, "Socket")
    _others(service, unit)
    description.add(service)


def _listen(service: Imported, unit: Unit, host: Host) -> None:
    only = unit.text("Socket", "BindIPv6Only", "default").lower() == "ipv6-only"
    for value in unit.all("Socket", "ListenStream"):
        text = f"/run/{value.text[len(_RUNTIME) :]}" if value.text.startswith(_RUNTIME) else value.text
        if text.startswith(("/", "@")):
            _listen_at(service, unit, value.place, text, host)
        elif text.startswith("vsock:"):
            service.cannot(value.place, f"{text} is neither TCP nor a Unix socket", "keep the units")
        elif text.isdecimal():
            listen_on(service, value.place, host, "::" if only else "*", text)
        else:
            address, _, port = text.rpartition(":")
            bare = address.strip("[]")
            listen_on(service, value.place, host, "*" if bare == "::" and not only else bare, port)
    if not unit.all("Socket", "ListenStream"):
        service.cannot(service.place, "it has no ListenStream=", "keep the units")
        add_endpoint(service, "*", 0)


def _listen_at(service: Imported, unit: Unit, place: SourceLine, name: str, host: Host) -> None:
    """Set a Unix socket, and who may connect: without SocketMode= that is as ucspid has it."""
    access = {}
    for key, setting, known in (
        ("SocketUser", "user", host.accounts.user),
        ("SocketGroup", "group", host.accounts.group),
    ):
        if text := unit.text("Socket", key):
            access[setting] = text
            if known(text) is None:
                service.cannot(place, f"there is no {setting} {text}", "create it, or remove the service")
    mode = unit.text("Socket", "SocketMode").lstrip("0")
    if mode:
        access["mode"] = f"0{mode}"
    add_unix_socket(service, name, {} if name.startswith("@") else access)


def _limits(service: Imported, unit: Unit) -> None:
    settings = service.settings
    count = unit.text("Socket", "MaxConnections", _MAX_CONNECTIONS)
    settings["max_connections"] = min(int(count), MAX_COUNT) if count.isdecimal() and int(count) else 64
    settings["on_full"] = "refuse"
    per_source = unit.text("Socket", "MaxConnectionsPerSource", "0")
    if per_source.isdecimal() and int(per_source):
        settings |= {"max_per_ip": min(int(per_source), MAX_COUNT), "ipv6_prefix": 128}
    backlog = unit.text("Socket", "Backlog")
    if backlog.isdecimal() and int(backlog):
        settings["backlog"] = min(int(backlog), 65535)
    for key, name in (("NoDelay", "nodelay"), ("KeepAlive", "keepalive")):
        if unit.text("Socket", key).lower() in _YES:
            settings[name] = True
    for kind in ("TriggerLimit", "PollLimit"):
        _rate(service, unit, kind)


def _rate(service: Imported, unit: Unit, kind: str) -> None:
    """Set a rate where a limit of starts was written; its defaults are there to protect systemd."""
    burst, interval = unit.last("Socket", f"{kind}Burst"), unit.last("Socket", f"{kind}IntervalSec")
    if burst is None or not burst.text.isdecimal() or not int(burst.text):
        return
    try:
        period = seconds(interval.text if interval else "2s")
    except ValueError:
        service.note(burst.place, f"{kind}IntervalSec={interval and interval.text} is no time", "set rate:")
        return
    if period != float("inf"):
        service.settings["rate"] = f"{min(max(1, round(int(burst.text) * 60 / period)), 1_000_000)}/min"
        service.beside["rate"] = f"{kind}: over it, systemd stopped the socket for all"


def addresses(service: Imported, unit: Unit, section: str) -> None:
    """Add rules for IPAddressAllow and IPAddressDeny: what is allowed goes before what is denied."""
    for key, allow in (("IPAddressAllow", True), ("IPAddressDeny", False)):
        patterns: list[str] = []
        for value in unit.all(section, key):
            patterns += _networks(service, value)
        if not patterns:
            continue
        if not allow and set(_SETS["any"]) <= set(patterns):
            service.settings["default_action"] = "deny"
        else:
            service.add_rule(AccessRule(allow=allow, patterns=patterns))


def _networks(service: Imported, value: UnitValue) -> list[str]:
    found: list[str] = []
    for word in value.text.split():
        try:
            found += _SETS.get(word) or [written(str(parse_network(word)))]
        except ValueError as error:
            service.cannot(value.place, f"{word}: {error}", "write the network that is meant")
    return found


def _others(service: Imported, unit: Unit) -> None:
    has_path = any(value.text.startswith(("/", _RUNTIME)) for value in unit.all("Socket", "ListenStream"))
    lost = {"DirectoryMode", "Symlinks"} if has_path else set[str]()
    without = (_IGNORED | _HANDLED | _OF_UNIX_SOCKETS) - lost
    for (section, key), values in unit.values.items():
        if not values or section in {"Unit", "Install"} or section.startswith("X-"):
            continue
        place, text = values[-1]
        if section != "Socket":
            service.note(place, f"[{section}] is not looked at", "keep the units if it is needed")
        elif key.startswith("Listen") and key != "ListenStream":
            service.cannot(place, f"{key}={text} is no stream", "keep the units for it")
        elif key not in without and text.lower() not in _NO:
            service.note(place, f"{key}={text} has no equivalent", "keep the units if it is needed")
