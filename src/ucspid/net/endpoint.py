"""An address and a port: one value, one parser and one way to print, for listeners, servers and clients.

A listener may be a Unix socket instead: unix: and a path, or unix:@ and a name in the abstract namespace.
"""

import re
from typing import Literal, Self

from ucspid.net.address import IPV4, parse_address, plain
from ucspid.net.unix import MAX_PATH, PREFIX, UnixClient, shortest
from ucspid.records import dataclass

MAX_PORT = 65535

Family = Literal["inet", "inet6", "dual", "unix"]

_BRACKETED = re.compile(r"\[([^\]]*)\]:(.+)")


def endpoint(ip: str, port: int) -> str:
    """Return an address and port as files, logs and answers have them: 192.0.2.7:25, [2001:db8::7]:25.

    The one way to do so: IPv4-mapped addresses are shown as IPv4, and scope ids not at all. A client over a
    Unix socket has no port. Raises ValueError if ip is not an address.
    """
    if ":" in ip:
        if isinstance(ip, UnixClient):
            return str(ip)
        ip = plain(ip)
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def host_of(text: str) -> str:
    """Return the address of what endpoint() has returned."""
    return text if text.startswith(PREFIX) else text.rpartition(":")[0].strip("[]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, in its usual form, and a port; without an address all those of both families.

    Port 0 lets the kernel choose. Of a Unix socket the host is the whole text, and the port 0.
    """

    host: str
    port: int

    @property
    def family(self) -> Family:
        """The address's family: dual if it is none, for one IPv6 socket that takes IPv4 as well."""
        if self.host.startswith(PREFIX):
            return "unix"
        return "inet6" if ":" in self.host else "inet" if self.host else "dual"

    @property
    def chosen(self) -> bool:
        """Whether the kernel chooses where it is."""
        return self.port == 0 and self.family != "unix"

    @property
    def name(self) -> str:
        """Of a Unix socket: its path, or its name after an @."""
        return self.host.removeprefix(PREFIX)

    @property
    def path(self) -> str | None:
        """The path of a Unix socket that has one."""
        return self.name if self.family == "unix" and not self.name.startswith("@") else None

    def __str__(self) -> str:
        """Return the form that the file has, too: *:25, 127.0.0.1:25, [::1]:25, unix:/run/x."""
        if self.family == "unix":
            return self.host
        return endpoint(self.host, self.port) if self.host else f"*:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what str() has returned, or other text of that form. Raises ValueError."""
        if text.startswith(PREFIX):
            return cls(_unix(text), 0)
        host, port = split(text)
        return cls(host, parse_port(port))


def split(text: str) -> tuple[str, str]:
    """Return host and port of HOST:PORT, [HOST]:PORT, *:PORT or PORT; the port may be a name.

    The host is in its usual form, and empty for all addresses. Raises ValueError.
    """
    if found := _BRACKETED.fullmatch(text):
        return _ipv6(found[1]), found[2]
    host, colon, port = text.rpartition(":")
    if not colon or host == "*":
        return "", port
    if ":" in host or host.startswith("["):
        raise ValueError(f'{text}: write an IPv6 address in brackets and quotes: "[::1]:25"')
    return _ipv4(host), port


def _unix(text: str) -> str:
    name = text.removeprefix(PREFIX)
    if "\0" in name or not (name.startswith("/") or (name.startswith("@") and len(name) > 1)):
        raise ValueError(f"{text}: after unix: comes a whole path, or @ and a name")
    if name.endswith("/"):
        raise ValueError(f"{text} is a directory")
    if (size := len(name.encode("utf-8", "surrogateescape"))) > MAX_PATH:
        raise ValueError(f"{size} bytes long, a socket's path may have at most {MAX_PATH}")
    if name.startswith("/") and (whole := shortest(name)) != name:
        raise ValueError(f"{text} is one of many forms of a path: write {PREFIX}{whole}")
    return text


def parse_port(text: str) -> int:
    """Return a port from its decimal digits. Raises ValueError."""
    if re.fullmatch(r"0|[1-9][0-9]{0,4}", text) and int(text) <= MAX_PORT:
        return int(text)
    raise ValueError(f"{text} is not a port: a decimal number from 0 to {MAX_PORT}")


def _ipv4(host: str) -> str:
    try:
        return str(parse_address(host))
    except ValueError:
        raise ValueError(
            f'"{host}" is not an IPv4 address; names of hosts are not looked up: write an address'
        ) from None


def _ipv6(host: str) -> str:
    if "%" in host:
        raise ValueError(f'"{host}" names an interface, which is not supported')
    try:
        address = parse_address(host if ":" in host else "")
    except ValueError:
        raise ValueError(f'"{host}" is not an IPv6 address') from None
    if address.width == IPV4:
        raise ValueError(f"write the IPv4 address itself: {address}")
    return str(address)
