"""Contexts for handshakes, made of certificates: the name that a client asks for decides which it gets."""

import contextlib
import os
import ssl
from collections.abc import Iterable

from ucspid.policy.tls_context import context_number
from ucspid.tls import openssl
from ucspid.tls.material import Chain, ContextMaterial, TlsMaterial
from ucspid.tls.tickets import Tickets
from ucspid.tls.truncation import reveal

CIPHERS = "ECDHE+AES128+AESGCM:ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, where the file names none: with forward secrecy and AEAD, in the order of RFC 9325."""

SUITE = "TLS_AES_128_GCM_SHA256"
"""Of TLS 1.3, what a client gets that has it, as all have (RFC 8446, 9.1): it takes least CPU.

OpenSSL itself prefers AES with 256 bits and SHA-384, which clients still get that offer nothing else.
"""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {
    "none": ssl.CERT_NONE,
    "request": ssl.CERT_OPTIONAL,
    "require": ssl.CERT_REQUIRED,
}


class ServerContext:
    """One of the plan's contexts: an SSLContext for each set of certificates, and which name has which."""

    def __init__(self, material: ContextMaterial, chains: tuple[Chain, ...], tickets: Tickets | None) -> None:
        """Make all SSLContexts. Raises ssl.SSLError or ValueError for what OpenSSL does not accept."""
        self.settings = material.context
        self.described: dict[ssl.SSLContext, tuple[tuple[str, str], ...]] = {}
        """The variables that describe the certificate of each."""
        self._material = material
        self._tickets = tickets
        self._made: dict[tuple[int, ...], ssl.SSLContext] = {}
        own = [(place, chains[place]) for place in material.chains]
        self._by_name = {name: self._of(_kinds(own, name)) for _place, chain in own for name in chain.names}
        default = own[0][1].names[:1]
        self.default = self._of(_kinds(own, *default) if default else own[:1])
        self.default.sni_callback = self._choose

    def _of(self, chains: list[tuple[int, Chain]]) -> ssl.SSLContext:
        places = tuple(place for place, _chain in chains)
        if places not in self._made:
            context = self._made[places] = self._make(chain for _place, chain in chains)
            self.described[context] = chains[0][1].described
        return self._made[places]

    def _make(self, chains: Iterable[Chain]) -> ssl.SSLContext:
        settings = self.settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[settings.min_version]
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        reveal(context)
        context.num_tickets = 1
        context.set_ciphers(settings.ciphers or CIPHERS)
        openssl.prefer(context, SUITE)
        if settings.alpn:
            context.set_alpn_protocols(list(settings.alpn))
        for chain in chains:
            _load(context, chain)
        if self._material.client_ca is not None:
            context.load_verify_locations(cadata=self._material.client_ca)
            context.verify_mode = _VERIFY[settings.client_certificates]
        if self._tickets is not None:
            self._tickets.serve(context)
        return context

    def _choose(self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        """Use the certificate of the name that a client asks for; refuse it if there is none and must be."""
        tls.server_name = name  # type: ignore[attr-defined] # for whoever has begun the handshake
        found = None if name is None else self.find(name)
        if found is not None:
            tls.context = found
        elif self.settings.sni == "strict":
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    def find(self, name: str) -> ssl.SSLContext | None:
        """Return what a name has a certificate in: its own, or one of all names beside it (RFC 6125)."""
        name = name.lower()
        return self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")


class Contexts:
    """All contexts in force, by their numbers; and for connections on their way, those that were before."""

    def __init__(self, tickets: Tickets | None) -> None:
        """Begin without any."""
        self._tickets = tickets
        self._by_number: dict[int, ServerContext] = {}
        self._before: dict[int, ServerContext] = {}

    def take(self, material: TlsMaterial) -> None:
        """Use this from now on. Raises ssl.SSLError or ValueError; what was before stays then."""
        made = {
            context_number(item.context): ServerContext(item, material.chains, self._tickets)
            for item in material.contexts
        }
        self._before, self._by_number = self._by_number, made

    def get(self, number: int) -> ServerContext | None:
        """Return the context with a number."""
        return self._by_number.get(number) or self._before.get(number)


def _kinds(chains: list[tuple[int, Chain]], *names: str) -> list[tuple[int, Chain]]:
    """Return the first chain of each kind of key that has the names."""
    found: dict[str, tuple[int, Chain]] = {}
    for place, chain in chains:
        if set(names) <= set(chain.names):
            found.setdefault(chain.kind, (place, chain))
    return list(found.values())


def _load(context: ssl.SSLContext, chain: Chain) -> None:
    """Load a chain and its key, which ssl takes from files only: from two pipes, which it reads once each.

    Raises ValueError for more than a pipe holds.
    """
    with contextlib.ExitStack() as stack:
        paths = []
        for _ in range(2):
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, reading)
            with open(writing, "wb", buffering=0) as pipe:
                if pipe.write(chain.pem.encode()) != len(chain.pem):
                    raise ValueError(f"a certificate chain of {len(chain.pem)} bytes")
            paths.append(f"/proc/self/fd/{reading}")
        context.load_cert_chain(*paths)
