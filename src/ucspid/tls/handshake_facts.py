"""What a handshake has shown: for the event loop, and as variables for the program.

Those that s6-tlsd sets, and with them those with mod_ssl's names that ucspi-ssl sets with -s. What is not
known is not set.
"""

import ssl
from functools import lru_cache
from typing import Any, NamedTuple

from ucspid.ipc.messages import Secured
from ucspid.tls.variables import PARTS, Subject, common, fingerprint_of, one_line, strings

MAX_NAMES = 64
"""Names of a client's certificate that are passed on."""


MAX_REMEMBERED = 256
"""Handshakes without a client's certificate that differ in what they show."""

Described = tuple[tuple[str, str], ...] | None
"""The variables of our own certificate, where those of ucspi-ssl are wanted."""


class Shown(NamedTuple):
    """What there is to say of a handshake, certificates of clients aside; version and cipher as by ssl."""

    version: str
    cipher: tuple[str, str, int]
    server_name: str | None
    alpn: str | None
    described: Described


class Facts(NamedTuple):
    """What is known once a handshake is done."""

    resumed: bool
    tail: bytes
    """What is packed the same for each connection of which the same is known."""
    variables: tuple[bytes, ...]

    @classmethod
    def of(cls, tls: ssl.SSLObject, server_name: str | None, described: Described) -> "Facts":
        """Return what a handshake has shown."""
        version, cipher = tls.version() or "", tls.cipher() or ("", "", 0)
        shown = Shown(version, cipher, server_name, tls.selected_alpn_protocol(), described)
        encoded = tls.getpeercert(binary_form=True)
        if encoded is None:
            tail, variables = _without_certificate(shown)
        else:
            tail, variables = _packed(shown, encoded, dict(tls.getpeercert() or {}))
        return cls(bool(tls.session_reused), tail, variables)

    def packet(self, connection: int) -> bytes:
        """Return it for the event loop: a Secured."""
        return Secured.head(self.resumed, connection) + self.tail


@lru_cache(MAX_REMEMBERED)
def _without_certificate(shown: Shown) -> tuple[bytes, tuple[bytes, ...]]:
    return _packed(shown, None, {})


def _packed(
    shown: Shown, encoded: bytes | None, certificate: dict[str, Any]
) -> tuple[bytes, tuple[bytes, ...]]:
    """Return what of a Secured does not depend on the connection, and the variables."""
    version, (name, _version, bits), server_name, alpn, described = shown
    fingerprint = fingerprint_of(encoded)
    values = common(version, shown.cipher, server_name, fingerprint, certificate)
    values |= {"SSL_PEER_CERT_CN": common_name(certificate), "SSL_ALPN_PROTOCOL": alpn}
    if described is not None:
        values |= {
            "SSL_CIPHER_USEKEYSIZE": str(bits),
            "SSL_CIPHER_ALGKEYSIZE": str(bits),
            "SSL_VERSION_INTERFACE": "ucspid",
            "SSL_VERSION_LIBRARY": ssl.OPENSSL_VERSION,
            "SSL_CLIENT_VERIFY": "NONE" if encoded is None else "SUCCESS",
            **dict(described),
            **client_variables(certificate),
        }
        if encoded is not None:
            values["SSL_CLIENT_CERT"] = ssl.DER_cert_to_PEM_cert(encoded)
    secured = Secured(
        resumed=False,
        connection=0,
        version=version,
        cipher=name,
        sni=server_name,
        alpn=alpn,
        fingerprint=fingerprint,
        names=names_of(certificate),
        variables=tuple(strings(values)),
    )
    return secured.pack()[Secured.SIZE :], secured.variables


def names_of(certificate: dict[str, Any]) -> tuple[bytes, ...]:
    """Return the alternative names of a certificate, as ssl has decoded it, in lower case."""
    names = (value for _kind, value in certificate.get("subjectAltName", ()) if isinstance(value, str))
    return tuple(name.lower().encode() for name in names if "\0" not in name)[:MAX_NAMES]


def common_name(certificate: dict[str, Any]) -> str | None:
    """Return the first common name of a certificate's owner, as ssl has decoded it; None without one."""
    subject: Subject = certificate.get("subject", ())
    return next((value for pairs in subject for kind, value in pairs if kind == "commonName"), None)


def client_variables(certificate: dict[str, Any]) -> dict[str, str]:
    """Return the variables that describe a client's certificate, as ssl has decoded it; none for none."""
    if not certificate:
        return {}
    return {
        "SSL_CLIENT_M_VERSION": str(certificate.get("version", "")),
        "SSL_CLIENT_M_SERIAL": certificate.get("serialNumber", ""),
        "SSL_CLIENT_V_START": certificate.get("notBefore", ""),
        "SSL_CLIENT_V_END": certificate.get("notAfter", ""),
        **named("SSL_CLIENT_S_DN", certificate.get("subject", ())),
        **named("SSL_CLIENT_I_DN", certificate.get("issuer", ())),
    }


def named(variable: str, subject: Subject) -> dict[str, str]:
    """Return a distinguished name as variables: as a whole, and its parts."""
    parts = {
        f"{variable}_{PARTS[kind]}": value for pairs in subject for kind, value in pairs if kind in PARTS
    }
    return {variable: one_line(subject), **parts}
