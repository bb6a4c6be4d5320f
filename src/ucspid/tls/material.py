"""What TLS processes are given: certificates with their keys, and which of them go with which context.

Made by a process with the master's rights, which reads the files, and written to memory that the master
passes on without reading it. Neither the event loop nor any program sees it.
"""

import json
import os

from ucspid import plain
from ucspid.plan import TlsContext
from ucspid.records import dataclass

MAX_SIZE = 32 << 20
"""Bytes of all certificates and keys together, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One certificate with those that lead to its authority, and its key: pem has all of them.

    names are those of its subject alternative names, in lower case, addresses as text; a wildcard is
    *.example.org. kind is that of its key: several kinds may be there for one name. described are the
    variables that say what it is (SSL_SERVER_*).
    """

    names: tuple[str, ...]
    kind: str
    pem: str
    described: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextMaterial:
    """A context: where its chains are in TlsMaterial, the default one first; client_ca is PEM."""

    context: TlsContext
    chains: tuple[int, ...]
    client_ca: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """Everything that is to be in force."""

    chains: tuple[Chain, ...]
    contexts: tuple[ContextMaterial, ...]


NO_MATERIAL = TlsMaterial(chains=(), contexts=())


def write(descriptor: int, material: TlsMaterial) -> None:
    """Write it from the beginning of a file or memory."""
    data = plain.to_json(material).encode()
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)


def read(descriptor: int) -> TlsMaterial:
    """Return what write() has written. Raises ValueError for more than MAX_SIZE."""
    size = os.fstat(descriptor).st_size
    if size > MAX_SIZE:
        raise ValueError(f"{size} bytes of certificates are more than {MAX_SIZE}")
    return plain.read(TlsMaterial, json.loads(os.pread(descriptor, size, 0)))
