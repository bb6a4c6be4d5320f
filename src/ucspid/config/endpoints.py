"""Addresses in the file: where to listen, and networks of clients, in their own forms."""

import re
import socket
from typing import Annotated, Any, ClassVar, Self

from msgspec import Meta, Struct

from ucspid.config.forms import Account, FileMode, Form, Misfit
from ucspid.config.positions import Scalar
from ucspid.config.ruleforms import in_words_of_tcprules
from ucspid.net.address import IPV4, parse_address, parse_network
from ucspid.net.endpoint import MAX_PORT, Endpoint, parse_port, split
from ucspid.net.unix import MAX_PATH, PREFIX

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,62}")


class ClientNetwork(Form, str):
    """An address or a network as text, in its usual form."""

    __slots__ = ()
    expects = "an address or a network such as 127.0.0.1, 10.0.0.0/8 or 2001:db8::/32"
    json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the network; bits set behind the prefix are refused, naming the network meant."""
        if not isinstance(value, str):
            raise Misfit
        if not set("=@") & set(value) and (meant := in_words_of_tcprules(value)):
            raise Misfit(meant)
        if not re.fullmatch(cls.json_schema["pattern"], value.rstrip("\n")):
            raise Misfit
        try:
            parse_address(value.partition("/")[0])
        except ValueError:
            raise Misfit from None
        try:
            network = parse_network(value)
        except ValueError as problem:
            raise Misfit(f'"{value}": {problem}') from None
        if ":" in value and network.width == IPV4:
            raise Misfit(f"write the IPv4 address itself: {network}")
        return cls(network)


class Balancer(ClientNetwork):
    """A ClientNetwork, or unix: for all who come over a Unix socket."""

    __slots__ = ()
    expects = "an address or a network such as 127.0.0.1, 10.0.0.0/8 or 2001:db8::/32, or unix:"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [ClientNetwork.json_schema, {"type": "string", "enum": [PREFIX]}]
    }

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the network, or unix: as it stands."""
        return cls(PREFIX) if value == PREFIX else cls(ClientNetwork.parse(value))


class Listen(Form):
    """Where to listen."""

    __slots__ = ("endpoint",)
    expects = 'a port, a service name, address:port, "[v6 address]:port", "*:port" or unix:/path'
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": MAX_PORT},
            {
                "type": "string",
                "pattern": r"^(((\*|[0-9.]+|\[[0-9A-Fa-f:.]+\]):)?[A-Za-z0-9][A-Za-z0-9_.+-]*|unix:[/@].+)$",
            },
        ]
    }

    def __init__(self, endpoint: Endpoint) -> None:
        """Keep where it is."""
        self.endpoint = endpoint

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return where to listen. A name of a service is looked up in services(5)."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Misfit
        if str(value).startswith(PREFIX):
            try:
                return cls(Endpoint.parse(str(value)))
            except ValueError as problem:
                raise Misfit(str(problem)) from None
        if str(value).startswith(("/", "@")):
            raise Misfit(f"for a Unix socket write {PREFIX}{value}")
        return cls(_endpoint(str(value)))


class ListenSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Unix socket, and who may connect to it."""

    address: Annotated[Listen, Meta(description="Where to listen: unix: and a whole path.")]
    mode: Annotated[
        FileMode | None, Meta(description="Permissions of the socket: whom w lets in. Without it 0666.")
    ] = None
    user: Annotated[Account | None, Meta(description="Its owner. Without it who starts the daemon.")] = None
    group: Annotated[
        Account | None, Meta(description="Its group. Without it that of who starts the daemon.")
    ] = None


def endpoint_of(given: Any) -> Endpoint | None:
    """Return where to listen; None where the address is missing or wrong, which is reported already."""
    address = given.address if isinstance(given, ListenSection) else given
    return address.endpoint if isinstance(address, Listen) else None


class WebListen(Form, str):
    """Where the status page is: an address and a port, or a path, as text."""

    __slots__ = ()
    expects = 'address:port such as 127.0.0.1:9109 or "[::1]:9109", or unix: and a whole path'
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^((\[[0-9A-Fa-f:.]+\]|[0-9.]+|\*):[0-9]+|unix:/.+)$",
    }

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the address in its usual form."""
        if not isinstance(value, str) or not re.fullmatch(cls.json_schema["pattern"], value.rstrip("\n")):
            raise Misfit
        if not value.startswith(PREFIX):
            return cls(_endpoint(value))
        if "\0" in value or len(value.encode()) - len(PREFIX) > MAX_PATH:
            raise Misfit(f"a socket's path may have at most {MAX_PATH} bytes")
        return cls(value)


MAX_NAMESERVERS = 16
"""Resolvers that are asked; they are sent to the event loop in one packet."""


class Nameserver(Form, str):
    """Where a DNS resolver answers, as text."""

    __slots__ = ()
    expects = 'an address such as 127.0.0.1, or address:port, "[::1]:5353"'
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[0-9.]+)(:[0-9]+)?$",
    }

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the address, with port 53 if it has none."""
        if not isinstance(value, str) or not re.fullmatch(cls.json_schema["pattern"], value.rstrip("\n")):
            raise Misfit
        return cls(_endpoint(value if re.search(r"[\]0-9]:[0-9]+$", value) else f"{value}:53"))


def _endpoint(text: str) -> Endpoint:
    try:
        host, port = split(text)
    except ValueError as problem:
        raise Misfit(str(problem)) from None
    return Endpoint(host, tcp_port(port))


def tcp_port(text: str) -> int:
    """Return the port that is written, or named as services(5) does. Raises Misfit."""
    if re.fullmatch(r"-?[0-9]+", text):
        try:
            return parse_port(text)
        except ValueError as problem:
            raise Misfit(str(problem)) from None
    if re.fullmatch(r"[0-9.]+", text):
        raise Misfit(f"{text} has no port: write {text}:25")
    unknown = f'"{text}" is neither a port nor a TCP service of services(5)'
    if not _SERVICE.fullmatch(text):
        raise Misfit(unknown)
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        raise Misfit(unknown) from None
