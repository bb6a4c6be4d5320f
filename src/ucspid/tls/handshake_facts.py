"""What a handshake has shown: for the event loop, and as variables for the program.

Those that s6-tlsd sets, and with them those with mod_ssl's names that ucspi-ssl sets with -s. What is not
known is not set.
"""

import ssl
from typing import Any

from ucspid.ipc.messages import Secured
from ucspid.tls.variables import PARTS, Subject, common, fingerprint_of, one_line, strings

MAX_NAMES = 64
"""Names of a client's certificate that are passed on."""


def facts(
    connection: int,
    tls: ssl.SSLObject,
    server_name: str | None,
    described: tuple[tuple[str, str], ...] | None,
) -> Secured:
    """Return what is known once the handshake is done.

    described are the variables of our own certificate, where those of ucspi-ssl are wanted.
    """
    cipher = tls.cipher()
    name, _version, bits = ("", "", 0) if cipher is None else cipher
    encoded = tls.getpeercert(binary_form=True)
    certificate: dict[str, Any] = dict(tls.getpeercert() or {})
    fingerprint = fingerprint_of(encoded)
    alpn = tls.selected_alpn_protocol()
    values = common(tls, server_name, fingerprint, certificate)
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
    return Secured(
        resumed=bool(tls.session_reused),
        connection=connection,
        version=tls.version() or "",
        cipher=name,
        sni=server_name,
        alpn=alpn,
        fingerprint=fingerprint,
        names=names_of(certificate),
        variables=tuple(strings(values)),
    )


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
