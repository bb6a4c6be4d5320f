"""Servers that speak TLS, for tests of clients."""

import contextlib
import functools
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import certificates
from private_network import serving_clients

NAME = "mail.example.org"
CLIENT = "client.example.org"
Conversation = Callable[[ssl.SSLSocket], None]


def authority() -> str:
    """Return the file of the authority that has signed what is not made to be wrong."""
    return str(certificates.shared() / "ca.pem")


@functools.cache
def certificate(kind: str) -> str:
    """Return a certificate with its key: for NAME, for addresses, for another name, or one that is wrong."""
    shared = certificates.shared()
    match kind:
        case "good":
            path = shared / f"{NAME}.pem"
        case "expired":
            path = certificates.make(shared, "expired", NAME, days="-1")
        case "unknown authority":
            other = shared / "other"
            other.mkdir()
            certificates.make_authority(other)
            path = certificates.make(other, NAME)
        case "self-signed":
            path = _self_signed(shared)
        case "addresses":
            path = certificates.make(shared, "addresses", "IP:127.0.0.1", "IP:::1")
        case _:
            path = certificates.make(shared, f"for-{kind}", kind)
    return str(path)


def _self_signed(folder: Path) -> Path:
    path = folder / "self-signed.pem"
    words = (
        "-nodes",
        "-x509",
        "-days",
        "30",
        "-subj",
        f"/CN={NAME}",
        "-addext",
        f"subjectAltName=DNS:{NAME}",
    )
    certificates.openssl(folder, "req", *certificates.EC, *words, "-keyout", path.name, "-out", "self.crt")
    path.write_bytes((folder / "self.crt").read_bytes() + path.read_bytes())
    return path


def context(kind: str = "good", *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Return the context of a server, with a certificate of a kind."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate(kind))
    made.maximum_version = version
    return made


@dataclass
class TlsServer:
    """A server on loopback; who came, and how each handshake or conversation ended: empty for well."""

    port: str
    clients: list[ssl.SSLSocket] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


@contextlib.contextmanager
def tls_server(
    talk: Conversation, used: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[TlsServer]:
    """Have a function talk to each client after the handshake, until the end of the block."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    it = TlsServer(str(listener.getsockname()[1]))
    chosen = context() if used is None else used

    def converse(client: socket.socket) -> None:
        end = ""
        try:
            with chosen.wrap_socket(client, server_side=True, suppress_ragged_eofs=False) as secured:
                it.clients.append(secured)
                talk(secured)
        except OSError as problem:
            end = str(problem)
        it.ends.append(end)

    with serving_clients(listener, converse):
        yield it


def echo(client: ssl.SSLSocket) -> None:
    """Say what the client says, until it ends; then end as TLS demands."""
    while data := client.recv(65536):
        client.sendall(data)
    client.unwrap()


def reset(client: ssl.SSLSocket) -> None:
    """Break the connection."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
