"""The variables that a connection's program gets, by the UCSPI contract (ucspi-tcp's tcp-environ).

What is not known is not set. Addresses are plain: an IPv4-mapped one is shown as IPv4. The dialects:

- tcp: PROTO is TCP for IPv6 too, and an IPv6 address stands in TCPREMOTEIP, because programs of
  the qmail family test for PROTO=TCP
- tcp6: as ucspi-tcp6 1.11 does: over IPv6 PROTO is TCP6, and addresses, ports and host names
  are given twice, as TCP6* and as TCP*; the ident user has only the one name TCPREMOTEINFO
- systemd: as tcp, and REMOTE_ADDR and REMOTE_PORT as of a systemd socket with Accept=yes

Over a Unix socket all of them have PROTO=UNIX, and the path and who the client is as ucspi-unix names them,
and as ucspi-ipc and s6-ipcserver do: UNIX* and IPC*. There is no address then, and no variable TCP*.

UCSPID_CONN_ID is the connection's number in the log, in hexadecimal.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from ucspid.net.unix import PREFIX, UnixClient
from ucspid.policy.client_facts import NO_FACTS, ClientFacts

Dialect = Literal["tcp", "tcp6", "systemd"]

MAX_PROGRAM = 96 << 10
"""What arguments and environment of one service may take together: one message to a launcher."""
_LENGTH = 4
"""Bytes that such a message takes for each text besides the text."""

_TCP = (
    "PROTO",
    "TCPLOCALIP",
    "TCPLOCALPORT",
    "TCPREMOTEIP",
    "TCPREMOTEPORT",
    "UCSPID_CONN_ID",
    "TCPREMOTEHOST",
    "TCPLOCALHOST",
    "TCPREMOTEINFO",
)
_TCP6 = ("TCP6LOCALIP", "TCP6LOCALPORT", "TCP6REMOTEIP", "TCP6REMOTEPORT", "TCP6REMOTEHOST", "TCP6LOCALHOST")

NAMES: dict[Dialect, tuple[str, ...]] = {
    "tcp": _TCP,
    "tcp6": (*_TCP, *_TCP6),
    "systemd": (*_TCP, "REMOTE_ADDR", "REMOTE_PORT"),
}
"""All that a connection may set, but for what rules set; a launcher refuses others."""

UNIX_NAMES = (
    "UNIXLOCALPATH", "UNIXREMOTEEUID", "UNIXREMOTEEGID", "UNIXREMOTEPID",
    "IPCLOCALPATH", "IPCREMOTEEUID", "IPCREMOTEEGID",
)  # fmt: skip
"""What a connection over a Unix socket may set besides PROTO and UCSPID_CONN_ID."""

PROXY_NAMES = (
    "UCSPID_PROXY_IP", "UCSPID_PROXY_PORT",
    "SSL_PROTOCOL", "SSL_CIPHER", "SSL_PEER_CERT_CN", "SSL_TLS_SNI_SERVERNAME", "SSL_ALPN_PROTOCOL",
)  # fmt: skip
"""What a connection by way of a balancer may set besides: the balancer's end, what it knows of the client."""


S6_TLS_NAMES = (
    "SSL_PROTOCOL", "SSL_CIPHER", "SSL_TLS_SNI_SERVERNAME", "SSL_PEER_CERT_HASH", "SSL_PEER_CERT_SUBJECT",
    "SSL_PEER_CERT_CN", "SSL_ALPN_PROTOCOL",
)  # fmt: skip
"""What a connection over TLS may set besides, as s6-tlsd does; the last two are those of PROXY_NAMES."""

DN_PARTS = ("C", "ST", "L", "O", "OU", "CN", "T", "I", "G", "S", "D", "UID", "Email")
"""Parts of a distinguished name that have a variable of their own, as mod_ssl names them."""

UCSPI_SSL_NAMES = (
    *S6_TLS_NAMES,
    "SSL_CIPHER_USEKEYSIZE", "SSL_CIPHER_ALGKEYSIZE", "SSL_VERSION_INTERFACE", "SSL_VERSION_LIBRARY",
    "SSL_CLIENT_VERIFY",
    *(f"SSL_{whose}_{what}"
      for whose in ("SERVER", "CLIENT")
      for what in (
          "M_VERSION", "M_SERIAL", "V_START", "V_END", "A_SIG", "A_KEY", "CERT", "S_DN", "I_DN",
          *(f"{name}_DN_{part}" for name in ("S", "I") for part in DN_PARTS),
      )),
    "SSLLOCALIP", "SSLLOCALPORT", "SSLREMOTEIP", "SSLREMOTEPORT", "SSLREMOTEHOST", "SSLREMOTEINFO",
)  # fmt: skip
"""The same as ucspi-ssl does with -e and -s."""

STARTTLS = ((b"UCSPITLS", b"1"), (b"SSLCTLFD", b"3"), (b"SSLREADFD", b"4"), (b"SSLWRITEFD", b"4"))
"""What a program gets that is to ask for TLS itself (UCSPI-TLS)."""

TLS_NAMES = {"s6": S6_TLS_NAMES, "ucspi-ssl": UCSPI_SSL_NAMES}


def ssl_variables(
    local: tuple[str, int], remote_ip: str, remote_port: int, found: ClientFacts
) -> tuple[tuple[bytes, bytes], ...]:
    """Return what ucspi-ssl sets beside the variables of TCP, whose PROTO it replaces."""
    values = {
        b"PROTO": b"SSL",
        b"SSLLOCALIP": local[0].encode(),
        b"SSLLOCALPORT": b"%d" % local[1],
        b"SSLREMOTEIP": remote_ip.encode(),
        b"SSLREMOTEPORT": b"%d" % remote_port,
        b"SSLREMOTEHOST": found.remote_host,
        b"SSLREMOTEINFO": found.info,
    }
    return tuple((name, value) for name, value in values.items() if value is not None)


def proxy_variables(ip: str, port: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return what says by which balancer, with which of its ports, a connection came."""
    return (b"UCSPID_PROXY_IP", ip.encode()), (b"UCSPID_PROXY_PORT", port.encode())


def names_of(
    dialect: Dialect, *, proxied: bool, tls: str | None = None, starttls: bool = False, unix: bool = False
) -> tuple[str, ...]:
    """Return the names that a connection to one service may set; tls is a key of TLS_NAMES."""
    names = [*NAMES[dialect]]
    if unix:
        names += UNIX_NAMES
    if proxied:
        names += PROXY_NAMES
    if starttls:
        names += (name.decode() for name, _value in STARTTLS)
    elif tls is not None:
        names += TLS_NAMES[tls]
    return tuple(dict.fromkeys(names))


_OF_CONNECTIONS = frozenset(
    name
    for dialect in NAMES
    for starttls in (False, True)
    for name in names_of(dialect, proxied=True, tls="ucspi-ssl", starttls=starttls, unix=True)
)


def variables(
    local: bytes,
    remote_ip: str,
    remote_port: int,
    connection: int,
    dialect: Dialect = "tcp",
    found: ClientFacts = NO_FACTS,
    from_rule: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return NAME=VALUE strings with NUL between them; local comes from local_variables().

    Of a client over a Unix socket nothing is found. A name may stand there twice: the last one
    holds. Variables of a rule come last, as rules have the last word.
    """
    remote = f"TCPREMOTEIP={remote_ip}\0TCPREMOTEPORT={remote_port}\0UCSPID_CONN_ID={connection:x}"
    if ":" in remote_ip and isinstance(remote_ip, UnixClient):
        remote, twice = _unix_variables(remote_ip, connection), False
    elif twice := dialect == "tcp6" and ":" in remote_ip:
        remote += f"\0TCP6REMOTEIP={remote_ip}\0TCP6REMOTEPORT={remote_port}"
    elif dialect == "systemd":
        remote += f"\0REMOTE_ADDR={remote_ip}\0REMOTE_PORT={remote_port}"
    strings = local + remote.encode()
    if found is not NO_FACTS:
        strings += _names(found, twice=twice)
    for item in from_rule:
        strings += b"\0%b=%b" % item
    return strings


def _unix_variables(client: UnixClient, connection: int) -> str:
    uid, gid = client.uid, client.gid
    return (
        f"UNIXREMOTEEUID={uid}\0UNIXREMOTEEGID={gid}\0UNIXREMOTEPID={client.pid}\0"
        f"IPCREMOTEEUID={uid}\0IPCREMOTEEGID={gid}\0UCSPID_CONN_ID={connection:x}"
    )


@lru_cache(maxsize=256)
def local_variables(ip: str, port: int, dialect: Dialect = "tcp") -> bytes:
    """Return the part that is the same for all connections to one local address, or Unix socket."""
    if ip.startswith(PREFIX):
        path = ip.removeprefix(PREFIX).encode("utf-8", "surrogateescape")
        return b"PROTO=UNIX\0UNIXLOCALPATH=%b\0IPCLOCALPATH=%b\0" % (path, path)
    strings = f"TCPLOCALIP={ip}\0TCPLOCALPORT={port}\0"
    if dialect == "tcp6" and ":" in ip:
        return f"PROTO=TCP6\0{strings}TCP6LOCALIP={ip}\0TCP6LOCALPORT={port}\0".encode()
    return f"PROTO=TCP\0{strings}".encode()


def _names(found: ClientFacts, *, twice: bool) -> bytes:
    """Return the strings of what was found, a NUL before each."""
    strings = b""
    for name, value in ((b"REMOTEHOST", found.remote_host), (b"LOCALHOST", found.local_host)):
        if value is not None:
            strings += b"\0TCP%b=%b" % (name, value)
            if twice:
                strings += b"\0TCP6%b=%b" % (name, value)
    return strings if found.info is None else strings + b"\0TCPREMOTEINFO=" + found.info


def inheritable(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a service may have of an environment: all but what describes another connection."""
    return {name: value for name, value in environ.items() if name not in _OF_CONNECTIONS}


def too_long(argv: Sequence[str], env: Sequence[tuple[str, str]], rule_env: Collection[str]) -> str | None:
    """Return why arguments and environment of a service are too long for a launcher; None if they are not.

    rule_env are the names of the variables that rules may set.
    """
    texts = [*argv, *(f"{name}={value}" for name, value in env), *rule_env]
    length = sum(len(text.encode("utf-8", "surrogateescape")) + _LENGTH for text in texts)
    if length <= MAX_PROGRAM:
        return None
    names = ", with the names of the variables that rules set," if rule_env else ""
    return f"arguments and environment{names} take {length} bytes together, at most {MAX_PROGRAM} are allowed"
