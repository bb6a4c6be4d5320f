"""Addresses in the file: where to listen, and networks of clients, in their own forms."""

import ipaddress
import re
import socket
from typing import Any, ClassVar, Self

from ucspid.config.forms import Form, Misfit
from ucspid.config.positions import Scalar
from ucspid.config.ruleforms import in_words_of_tcprules
from ucspid.plan import Address

MAX_PORT = 65535

_BRACKETED = re.compile(r"\[([^\]]*)\]:(.+)")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,62}")


class Network(Form, str):
    """An address or a network as text, in its shortest writing."""

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
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise Misfit from None
        if "/" in value and ipaddress.ip_address(value.partition("/")[0]) != network.network_address:
            raise Misfit(f"{value} has bits set behind its prefix; the network is {network}")
        if network.version == 6 and (mapped := network.network_address.ipv4_mapped):  # noqa: PLR2004
            raise Misfit(f"write the IPv4 address itself: {mapped}")
        return cls(network)


class Endpoint(Form):
    """Where to listen."""

    __slots__ = ("address",)
    expects = 'a port, a service name, address:port, "[v6 address]:port" or "*:port"'
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": MAX_PORT},
            {
                "type": "string",
                "pattern": r"^((\*|[0-9.]+|\[[0-9A-Fa-f:.]+\]):)?[A-Za-z0-9][A-Za-z0-9_.+-]*$",
            },
        ]
    }

    def __init__(self, address: Address) -> None:
        """Keep the address."""
        self.address = address

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return where to listen. A name of a service is looked up in services(5)."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Misfit
        return cls(_address(str(value)))


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
        address = _address(value if re.search(r"[\]0-9]:[0-9]+$", value) else f"{value}:53")
        return cls(address)


def _address(text: str) -> Address:
    if found := _BRACKETED.fullmatch(text):
        return Address(family="inet6", host=_v6(found[1]), port=_port(found[2]))
    host, colon, port = text.rpartition(":")
    if not colon:
        return Address(family="dual", host="", port=_port(port))
    if ":" in host or host.startswith("["):
        raise Misfit(f'{text}: write an IPv6 address in brackets and quotes: "[::1]:25"')
    if host == "*":
        return Address(family="dual", host="", port=_port(port))
    return Address(family="inet", host=_v4(host), port=_port(port))


def _v4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise Misfit(
            f'"{host}" is not an IPv4 address; names of hosts are not looked up: write an address'
        ) from None


def _v6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise Misfit(f'"{host}" is not an IPv6 address') from None
    if address.scope_id is not None:
        raise Misfit(f'"{host}" names an interface, which is not supported')
    if address.ipv4_mapped is not None:
        raise Misfit(f"write the IPv4 address itself: {address.ipv4_mapped}")
    return str(address)


def _port(text: str) -> int:
    if re.fullmatch(r"0|[1-9][0-9]{0,4}", text) and int(text) <= MAX_PORT:
        return int(text)
    if re.fullmatch(r"-?[0-9]+", text):
        raise Misfit(f"{text} is not a port: a decimal number from 0 to {MAX_PORT}")
    if re.fullmatch(r"[0-9.]+", text):
        raise Misfit(f"{text} has no port: write {text}:25")
    unknown = f'"{text}" is neither a port nor a TCP service of services(5)'
    if not _SERVICE.fullmatch(text):
        raise Misfit(unknown)
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        raise Misfit(unknown) from None
