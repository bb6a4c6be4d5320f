"""What a handshake has shown, as variables for a program: those that s6's tools set.

Also a part of tools that start quickly: nothing but ssl is behind it.
"""

import hashlib
from typing import Any

MAX_VALUE = 8192
"""Bytes of a value; longer ones are not set."""

PARTS = {
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "commonName": "CN",
    "title": "T",
    "initials": "I",
    "givenName": "G",
    "surname": "S",
    "description": "D",
    "userId": "UID",
    "emailAddress": "Email",
}
"""Parts of a distinguished name, as ssl names them and as variables do."""

Subject = tuple[tuple[tuple[str, str], ...], ...]

COMMON = (
    "SSL_PROTOCOL",
    "SSL_CIPHER",
    "SSL_TLS_SNI_SERVERNAME",
    "SSL_PEER_CERT_HASH",
    "SSL_PEER_CERT_SUBJECT",
)
"""The variables; what is not known is not set."""


def fingerprint_of(encoded: bytes | None) -> str | None:
    """Return the SHA-256 fingerprint of a certificate, None for none."""
    return None if encoded is None else hashlib.sha256(encoded).hexdigest()


def common(
    version: str,
    cipher: tuple[str, str, int],
    server_name: str | None,
    fingerprint: str | None,
    certificate: dict[str, Any],
) -> dict[str, str | None]:
    """Return the variables, None for what is not known.

    version and cipher are as ssl says them. fingerprint and certificate are the peer's; the latter is what
    ssl has decoded.
    """
    found = (
        version or cipher[1],
        cipher[0],
        server_name,
        None if fingerprint is None else f"SHA256:{fingerprint}",
        one_line(certificate.get("subject", ())) or None,
    )
    return dict(zip(COMMON, found, strict=True))


def one_line(subject: Subject) -> str:
    """Return a distinguished name on one line, as openssl's X509_NAME_oneline() does."""
    return "".join(f"/{PARTS.get(kind, kind)}={value}" for pairs in subject for kind, value in pairs)


def strings(values: dict[str, str | None]) -> list[bytes]:
    """Return NAME=VALUE of those that are known and can be set."""
    found = []
    for name, value in values.items():
        if value is not None and "\0" not in value and len(data := value.encode()) <= MAX_VALUE:
            found.append(b"%b=%b" % (name.encode(), data))
    return found
