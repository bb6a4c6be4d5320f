"""A certificate as variables of a program: the names of mod_ssl, which ucspi-ssl has too."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

_PARTS = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.TITLE: "T",
    NameOID.INITIALS: "I",
    NameOID.GIVEN_NAME: "G",
    NameOID.SURNAME: "S",
    x509.ObjectIdentifier("2.5.4.13"): "D",
    NameOID.X500_UNIQUE_IDENTIFIER: "UID",
    NameOID.EMAIL_ADDRESS: "Email",
}
"""What has a variable of its own, _DN_ and this."""

_SHORT = {
    **_PARTS,
    NameOID.TITLE: "title",
    NameOID.INITIALS: "initials",
    NameOID.GIVEN_NAME: "GN",
    NameOID.SURNAME: "SN",
    x509.ObjectIdentifier("2.5.4.13"): "description",
    NameOID.X500_UNIQUE_IDENTIFIER: "x500UniqueIdentifier",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.USER_ID: "UID",
}
"""OpenSSL's short names, which are in a name as one line."""

_SIGNATURES = {
    SignatureAlgorithmOID.RSA_WITH_SHA1: "sha1WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA256: "sha256WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA384: "sha384WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA512: "sha512WithRSAEncryption",
    SignatureAlgorithmOID.RSASSA_PSS: "rsassaPss",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "ecdsa-with-SHA1",
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: "ecdsa-with-SHA256",
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: "ecdsa-with-SHA384",
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: "ecdsa-with-SHA512",
    SignatureAlgorithmOID.ED25519: "ED25519",
    SignatureAlgorithmOID.ED448: "ED448",
}
_UNKNOWN = "UNKNOWN"


def described(certificate: x509.Certificate, pem: str) -> tuple[tuple[str, str], ...]:
    """Return the variables SSL_SERVER_* of a certificate. Raises as the library does for a damaged one."""
    parts = {
        "M_VERSION": str(certificate.version.value + 1),
        "M_SERIAL": f"{certificate.serial_number:02X}",
        **_name("S_DN", certificate.subject),
        **_name("I_DN", certificate.issuer),
        "V_START": _time(certificate.not_valid_before_utc),
        "V_END": _time(certificate.not_valid_after_utc),
        "A_SIG": _SIGNATURES.get(certificate.signature_algorithm_oid, _UNKNOWN),
        "A_KEY": _key(certificate),
        "CERT": pem,
    }
    return tuple((f"SSL_SERVER_{name}", value.replace("\0", "")) for name, value in parts.items())


def _name(prefix: str, name: x509.Name) -> dict[str, str]:
    """Return a name as one line, as of X509_NAME_oneline(3), and its parts; the last of a kind counts."""
    whole = ""
    parts = {}
    for attribute in name:
        value = attribute.value if isinstance(attribute.value, str) else attribute.value.hex()
        short = _SHORT.get(attribute.oid, attribute.oid.dotted_string)
        whole += f"/{short}={_one_line(value)}"
        if attribute.oid in _PARTS:
            parts[f"{prefix}_{_PARTS[attribute.oid]}"] = value
    return {prefix: whole, **parts}


def _one_line(value: str) -> str:
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02X}"  # noqa: PLR2004 - what ASCII can print
        for byte in value.encode()
    )


def _time(time: datetime) -> str:
    """Return a time as ASN1_TIME_print(3) writes it."""
    utc = time.astimezone(UTC)
    return f"{utc:%b} {utc.day:2d} {utc:%H:%M:%S} {utc.year} GMT"


def _key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey():
            return "rsaEncryption"
        case ec.EllipticCurvePublicKey():
            return "id-ecPublicKey"
        case ed25519.Ed25519PublicKey():
            return "ED25519"
        case ed448.Ed448PublicKey():
            return "ED448"
    return _UNKNOWN
