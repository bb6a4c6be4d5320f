"""Where services listen, from the forms that other servers have."""

import re
from ipaddress import ip_address

from ucspid.importers.description import Imported, SourceLine
from ucspid.importers.host import Host
from ucspid.net.unix import PREFIX, shortest

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def listen_on(service: Imported, place: SourceLine, host: Host, address: str, port: str) -> None:
    """Add an endpoint: address is "*", "0.0.0.0", "::", another address, or a name in hosts(5)."""
    number = host.port(port)
    if number is None:
        service.cannot(
            place, f"{port} is not a TCP port that services(5) knows", "write its number after listen:"
        )
        return
    for endpoint in _addresses(service, place, host, address):
        add_endpoint(service, endpoint, number)
    if not port.isdecimal():
        service.beside["listen"] = port


def add_endpoint(service: Imported, address: str, port: int) -> None:
    """Add an endpoint by its numbers."""
    _add(service, port if address == "*" else f"{_bracketed(address)}:{port}")


def add_unix_socket(service: Imported, name: str, access: dict[str, str]) -> None:
    """Add a Unix socket: a path, or an @ and a name; access has mode, user and group, if they are said."""
    address = f"{PREFIX}{name if name.startswith('@') else shortest(name)}"
    _add(service, {"address": address, **access} if access else address)


def _add(service: Imported, written: int | str | dict[str, str]) -> None:
    old = service.settings.get("listen")
    if old is None:
        service.settings["listen"] = written
    elif isinstance(old, list):
        old.append(written)
    else:
        service.settings["listen"] = [old, written]


def _addresses(service: Imported, place: SourceLine, host: Host, address: str) -> list[str]:
    if address == "*":
        return ["*"]
    try:
        return [str(ip_address(address))]
    except ValueError:
        pass
    found = host.hosts.get(address.lower(), []) if _NAME.fullmatch(address) else []
    if not found:
        service.cannot(
            place,
            f"{address} is a name, not an address",
            "write its address after listen: names are not looked up",
        )
    return found


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
