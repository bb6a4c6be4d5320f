"""The keys of `forward`: see schema.py."""

import re
from typing import Annotated, Any, ClassVar, Self

from msgspec import Meta, Struct
from msgspec import field as key

from ucspid.config.endpoints import tcp_port
from ucspid.config.forms import Form, Lifetime, Misfit
from ucspid.config.positions import Scalar
from ucspid.config.ruleforms import LookupTime
from ucspid.forward.targets import UNIX, Destination
from ucspid.net.address import IPV4, parse_address
from ucspid.net.endpoint import Endpoint
from ucspid.net.unix import MAX_PATH

MAX_TARGETS = 32
NAME = "ucspid-forward"
"""What ps(1) shows of the program, before its arguments."""

_MAX_HOST = 253
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")


class ForwardTarget(Form):
    """A server to forward to."""

    __slots__ = ("target",)
    expects = 'host:port, address:port, "[v6 address]:port", or unix: and a whole path'
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^(([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[A-Za-z0-9][A-Za-z0-9_.+-]*|unix:[/@].+)$",
    }

    def __init__(self, target: Destination) -> None:
        """Keep the server."""
        self.target = target

    def __str__(self) -> str:
        """Return the form that the file has."""
        return str(self.target)

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the server. The name of a port is looked up in services(5), that of a host is not."""
        if not isinstance(value, str):
            raise Misfit
        if value.startswith(UNIX):
            return cls(Destination(_path(value[len(UNIX) :]), 0))
        if value.startswith(("/", "@")):
            raise Misfit(f"for a Unix socket write {UNIX}{value}")
        host, colon, port = value.rpartition(":")
        if not colon and _HOST.fullmatch(value) and not value.isdecimal():
            raise Misfit(f"{value} has no port: write {value}:25")
        if not host or not port or port.endswith("]"):
            raise Misfit
        number = tcp_port(port)
        if not number:
            raise Misfit("port 0 is nobody's: write the server's")
        return cls(Destination(_host(host), number))


def _path(path: str) -> str:
    if not path.startswith(("/", "@")) or path == "@" or "\0" in path:
        raise Misfit
    if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise Misfit(f"a socket's path may have at most {MAX_PATH} bytes")
    return path


def _host(host: str) -> str:
    """Return an address in its usual form, or the name of a host."""
    bracketed = host.startswith("[") and host.endswith("]")
    if not bracketed and ":" not in host and host.rpartition(".")[2].isdecimal() is False:
        if len(host) > _MAX_HOST or not _HOST.fullmatch(host):
            raise Misfit
        return host
    try:
        address = parse_address(host.strip("[]") if bracketed else host)
    except ValueError:
        raise Misfit from None
    if bracketed is (address.width == IPV4):
        raise Misfit
    return str(address)


class ProxyVersion(Form, str):
    """The version of the PROXY header that is sent."""

    __slots__ = ()
    expects = "v1, v2 or off"
    json_schema: ClassVar[dict[str, Any]] = {"enum": ["v1", "v2", "off", False]}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the version."""
        if value is False:
            return cls("off")
        if value not in ("v1", "v2", "off"):
            raise Misfit
        return cls(value)


class ForwardSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Servers to one of which each connection is passed on. Examples are in docs/forward.md."""

    to: Annotated[
        list[ForwardTarget],
        Meta(
            min_length=1,
            max_length=MAX_TARGETS,
            extra={"single": True},
            description="The servers. Each connection begins with another of them; the next is tried if one "
            "does not answer. Names are looked up for each connection.",
        ),
    ]
    proxy: Annotated[
        ProxyVersion,
        Meta(
            description="The header of the PROXY protocol that the server is sent first: it names the client."
        ),
    ] = key(default_factory=lambda: ProxyVersion("off"))
    connect_timeout: Annotated[
        LookupTime, Meta(description="How long all attempts to connect may take together.")
    ] = key(default_factory=lambda: LookupTime(5))
    idle_timeout: Annotated[
        Lifetime, Meta(description="How long there may be no byte, either way, before the connection ends.")
    ] = key(default_factory=lambda: Lifetime(1800))


def is_there(target: Destination, listen: Endpoint) -> bool:
    """Return whether a service that listens there is this target; no name is looked up but localhost."""
    if not target.port:
        return listen.family == "unix" and listen.name == target.host
    if listen.family == "unix" or listen.port != target.port:
        return False
    if listen.host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return target.host in ("localhost", "::1", "::") or target.host.startswith(("127.", "0."))
    return target.host == listen.host or (target.host == "localhost" and listen.host in ("127.0.0.1", "::1"))


def section_of(given: ForwardSection | ForwardTarget) -> ForwardSection:
    """Return the mapping that a server alone stands for."""
    return ForwardSection(to=[given]) if isinstance(given, ForwardTarget) else given


def arguments(given: ForwardSection | ForwardTarget) -> tuple[str, ...]:
    """Return the arguments of the program, as ucspid.forward.main takes them, its name being the first."""
    section = section_of(given)
    times = f"{float(section.connect_timeout):g}", f"{float(section.idle_timeout):.10g}"
    return (NAME, str(section.proxy), *times, *map(str, section.to))
