"""Contexts of TLS processes for tests, with certificates that an authority of the tests has signed."""

import functools
import ssl
from typing import Any

import certificates
from certificates import EC, RSA
from ucspid.plan import CertificateFiles, TlsContext
from ucspid.policy.tls_context import context_number
from ucspid.tls.contexts import Contexts, ServerContext
from ucspid.tls.material import Chain, ContextMaterial, TlsMaterial
from ucspid.tls.ticket_keys import TicketKeys, TicketSecret
from ucspid.tls.tickets import Tickets

ED25519 = ("-newkey", "ed25519")
CHAINS = {
    "mail": ("ec", ("mail.example.org",), EC),
    "mail-rsa": ("rsa", ("mail.example.org",), RSA),
    "any": ("ec", ("*.example.net", "example.net"), EC),
    "ed": ("ed25519", ("ed.example.org",), ED25519),
}
SECRET = TicketSecret(0, b"s" * 32)


@functools.cache
def chain(name: str) -> Chain:
    kind, names, options = CHAINS[name]
    path = certificates.shared() / f"{name}-of-contexts.pem"
    made = certificates.make(path.parent, path.stem, *names, kind=options)
    return Chain(names=names, kind=kind, pem=made.read_text(), described=(("SSL_SERVER_S_DN", name),))


def tickets(secret: TicketSecret = SECRET) -> Tickets:
    return Tickets(TicketKeys(secret))


def contexts(
    *names: str, used: Tickets | None = None, ca: bool = False, **settings: Any
) -> tuple[Contexts, int]:
    """Return contexts with one that has these chains, and its number."""
    context = TlsContext(certificates=(CertificateFiles(path="/x"),), **settings)
    authority = (certificates.shared() / "ca.pem").read_text() if ca else None
    made = Contexts(used or tickets())
    chains = tuple(map(chain, names))
    one = ContextMaterial(context=context, chains=tuple(range(len(names))), client_ca=authority)
    made.take(TlsMaterial(chains=chains, contexts=(one,)))
    return made, context_number(context)


def server(*names: str, **settings: Any) -> ServerContext:
    made, number = contexts(*names, **settings)
    found = made.get(number)
    assert found is not None
    return found


@functools.cache
def client(**changes: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    context.check_hostname = False
    for name, value in changes.items():
        setattr(context, name, value)
    return context
