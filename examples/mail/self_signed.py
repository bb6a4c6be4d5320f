"""Make a certificate that nobody has signed, to try TLS with: python self_signed.py DIRECTORY [NAME ...].

The directory then has fullchain.pem and privkey.pem, as certbot names them. Clients must not check
who the server is. It needs the library cryptography, which ucspid needs, too.
"""

import ipaddress
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

VALID = timedelta(days=3650)
NAMES = ["localhost", "127.0.0.1", "::1"]


def make(folder: Path, names: list[str]) -> None:
    """Make the key and the certificate, which is there last."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([alternative(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write(folder / "privkey.pem", private, 0o600)
    write(folder / "fullchain.pem", certificate.public_bytes(Encoding.PEM), 0o644)


def alternative(name: str) -> x509.GeneralName:
    """Return a name of the host, or an address, as a certificate has it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is there as a whole or not at all, and that no other user could read meanwhile."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    new.rename(path)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit("usage: python self_signed.py DIRECTORY [NAME ...]")
    make(Path(sys.argv[1]), sys.argv[2:] or NAMES)
