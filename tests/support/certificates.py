"""Certificates for tests, made by openssl's command: an authority, and what it has signed."""

import functools
import subprocess
import tempfile
from pathlib import Path

TIMEOUT = 30.0
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:2048")


def openssl(folder: Path, *arguments: str) -> bytes:
    """Run openssl in a folder; return what it prints."""
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=TIMEOUT
    )
    return done.stdout


def make_authority(folder: Path) -> Path:
    """Make ca.pem and its key; return the certificate."""
    openssl(
        folder,
        "req",
        *EC,
        "-nodes",
        "-x509",
        "-days",
        "30",
        "-subj",
        "/CN=ca",
        "-addext",
        "keyUsage=critical,keyCertSign",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    )
    return folder / "ca.pem"


def make(folder: Path, name: str, *names: str, kind: tuple[str, ...] = EC, days: str = "30") -> Path:
    """Make a certificate for DNS names or IP:ADDRESS, signed by the folder's authority.

    Return NAME.pem, with its key.
    """
    alternatives = ",".join(each if ":" in each else f"DNS:{each}" for each in names or (name,))
    openssl(
        folder,
        "req",
        *kind,
        "-nodes",
        "-subj",
        f"/CN={name}",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.csr",
    )
    (folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\nauthorityKeyIdentifier=keyid\n")
    signing = (
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        days,
        "-extfile",
        f"{name}.ext",
    )
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")
    path = folder / f"{name}.pem"
    path.write_bytes((folder / f"{name}.crt").read_bytes() + (folder / f"{name}.key").read_bytes())
    return path


@functools.cache
def shared() -> Path:
    """Return a folder with ca.pem, and certificates of mail.example.org and client.example.org; made once."""
    folder = Path(tempfile.mkdtemp(prefix="ucspid-test-certificates-"))
    make_authority(folder)
    for name in ("mail.example.org", "client.example.org"):
        make(folder, name)
    return folder
