"""One certificate: its chain and its key, read from PEM and checked, so that no handshake fails for it.

For the processes that read certificates with the master's rights; what does TLS gets the result.
"""

import re
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from ucspid.records import dataclass
from ucspid.tls.certificate_paths import Located
from ucspid.tls.described import described
from ucspid.tls.material import Chain

MAX_CHAIN = 16
"""Certificates of one chain."""
MIN_RSA_BITS = 2048
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Curves of keys that are good for TLS."""

CERTIFICATE = "CERTIFICATE"
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----\r?\n.*?\n-----END \1-----", re.DOTALL)
_IRREGULAR = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
)
"""What the library raises for data that is no certificate."""


class CertificateError(Exception):
    """PATH: why the certificate or the key in it cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCertificate:
    """A certificate that is good, where it was read, and until when it is valid, in seconds since 1970."""

    chain: Chain
    path: str
    not_after: float
    fingerprint: str


def blocks(data: bytes, path: str) -> list[tuple[str, str]]:
    """Return the parts of a PEM file, each its label and its text. Raises CertificateError."""
    found = [(label.decode(), text) for label, text in _labelled(data)]
    if len(found) != len(_BEGIN.findall(data)):
        raise CertificateError(f"{path}: a part of it begins and does not end: it is not written completely")
    try:
        return [(label, text.decode("ascii").replace("\r\n", "\n") + "\n") for label, text in found]
    except UnicodeDecodeError:
        raise CertificateError(f"{path}: is not a PEM file: it has other characters than ASCII") from None


def _labelled(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(match[1], match[0]) for match in _BLOCK.finditer(data)]


def certificates_of(data: bytes, path: str) -> list[tuple[x509.Certificate, str]]:
    """Return the certificates of a PEM file with their texts. Raises CertificateError."""
    found = []
    for label, text in blocks(data, path):
        if label == CERTIFICATE:
            try:
                found.append((x509.load_pem_x509_certificate(text.encode()), text))
            except _IRREGULAR as problem:
                raise CertificateError(
                    f"{path}: certificate {len(found) + 1} in it is damaged: {problem}"
                ) from None
    if not found:
        raise CertificateError(f"{path}: no certificate in it")
    return found


def read_certificate(
    chain: tuple[Located, bytes], key: tuple[Located, bytes], now: datetime
) -> ReadCertificate:
    """Return the certificate in one file, whose key is in the same or another. Raises CertificateError."""
    (chain_file, data), (key_file, key_data) = chain, key
    path = chain_file.shown
    found = certificates_of(data, path)
    if len(found) > MAX_CHAIN:
        raise CertificateError(f"{path}: {len(found)} certificates in it, at most {MAX_CHAIN} are allowed")
    public, key_text = _key(key_data, key_file.shown, alone=key_file.shown != path)
    certificates = [certificate for certificate, _text in found]
    _check_key(public, certificates, path, key_file.shown)
    _check_order(certificates, path)
    for number, certificate in enumerate(certificates, 1):
        _check_time(certificate, number, path, now)
    leaf = certificates[0]
    try:
        names = _names(leaf)
        variables = described(leaf, found[0][1])
    except _IRREGULAR as problem:
        raise CertificateError(f"{path}: the certificate is damaged: {problem}") from None
    pem = "".join([*(text for _certificate, text in found), key_text])
    return ReadCertificate(
        chain=Chain(names=names, kind=_kind(leaf, path), pem=pem, described=variables),
        path=path,
        not_after=leaf.not_valid_after_utc.timestamp(),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
    )


def _key(data: bytes, path: str, *, alone: bool) -> tuple[bytes, str]:
    """Return the public key of a private one, and the text of that."""
    found = [(label, text) for label, text in blocks(data, path) if label.endswith("PRIVATE KEY")]
    if not found:
        hint = "" if alone else ": name the file that has it as key, or the directory of both"
        raise CertificateError(f"{path}: no private key in it{hint}")
    if len(found) > 1:
        raise CertificateError(f"{path}: {len(found)} private keys in it, expected one")
    label, text = found[0]
    if "ENCRYPTED" in label or "Proc-Type: 4,ENCRYPTED" in text:
        raise CertificateError(
            f"{path}: the private key is encrypted, and there is nobody to ask for its password: "
            "decrypt it with openssl pkey"
        )
    try:
        public = load_pem_private_key(text.encode(), None).public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), text
    except _IRREGULAR as problem:
        raise CertificateError(f"{path}: the private key is damaged: {problem}") from None


def _public(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except _IRREGULAR:
        return b""


def _check_key(public: bytes, certificates: list[x509.Certificate], path: str, key_path: str) -> None:
    if public == _public(certificates[0]):
        return
    for number, certificate in enumerate(certificates, 1):
        if public == _public(certificate):
            raise CertificateError(
                f"{path}: the certificate of the key is number {number} in it: it must be the first"
            )
    where = "the private key in it" if path == key_path else f"the private key in {key_path}"
    raise CertificateError(f"{path}: {where} does not belong to the certificate")


def _check_order(certificates: list[x509.Certificate], path: str) -> None:
    for number, (signed, signer) in enumerate(pairwise(certificates), 1):
        try:
            signed.verify_directly_issued_by(signer)
        except (InvalidSignature, *_IRREGULAR):
            raise CertificateError(
                f"{path}: certificate {number + 1} in it did not sign certificate {number}: "
                "each must be followed by the one that signed it"
            ) from None


def _check_time(certificate: x509.Certificate, number: int, path: str, now: datetime) -> None:
    which = "the certificate" if number == 1 else f"certificate {number} in it"
    if certificate.not_valid_after_utc < now:
        raise CertificateError(f"{path}: {which} expired on {_written(certificate.not_valid_after_utc)}")
    if certificate.not_valid_before_utc > now:
        raise CertificateError(
            f"{path}: {which} is not valid before {_written(certificate.not_valid_before_utc)}"
        )


def _written(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    domains = [name.lower().rstrip(".") for name in names.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple(dict.fromkeys([*domains, *addresses]))


def _kind(certificate: x509.Certificate, path: str) -> str:
    """Return the kind of the key. Raises CertificateError if it is of no use for TLS."""
    match certificate.public_key():
        case ec.EllipticCurvePublicKey(curve=curve) if curve.name in CURVES:
            return "EC"
        case ec.EllipticCurvePublicKey(curve=curve):
            raise CertificateError(f"{path}: the key is on curve {curve.name}, which TLS does not have")
        case rsa.RSAPublicKey(key_size=bits) if bits >= MIN_RSA_BITS:
            return "RSA"
        case rsa.RSAPublicKey(key_size=bits):
            raise CertificateError(f"{path}: the key has {bits} bits, expected at least {MIN_RSA_BITS}")
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
    raise CertificateError(f"{path}: the key is of a kind that TLS does not have")
