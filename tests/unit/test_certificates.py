"""Certificates: what is made of good ones, and every way in which one can be bad."""

import functools
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import certificates
from certificates import openssl
from ucspid.plan import CertificateFiles, TlsContext
from ucspid.tls.certificate_paths import MAX_FILE
from ucspid.tls.gathering import Gathered, gather
from ucspid.tls.material import Chain

P384 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384")
BRAINPOOL = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1")
ED25519 = ("-newkey", "ed25519")
SHORT_RSA = ("-newkey", "rsa:1024")
ED448 = ("-newkey", "ed448")


@functools.cache
def made() -> Path:
    """Return a folder with certificates of many kinds."""
    folder = Path(tempfile.mkdtemp(prefix="ucspid-test-certificates-"))
    certificates.make_authority(folder)
    for name, kind in {
        "ec": certificates.EC, "rsa": certificates.RSA, "p384": P384, "ed25519": ED25519, "ed448": ED448,
        "brainpool": BRAINPOOL, "short": SHORT_RSA, "other": certificates.EC,
    }.items():  # fmt: skip
        certificates.make(folder, name, kind=kind)
    certificates.make(
        folder, "many", "Mail.Example.ORG", "*.example.net", "a.example.org", "IP:192.0.2.1", "IP:::1"
    )
    nameless = ("-nodes", "-x509", "-days", "30", "-subj", "/CN=nameless", "-keyout", "nameless.key")
    openssl(folder, "req", *certificates.EC, *nameless, "-out", "nameless.crt")
    encrypted = ("-aes256", "-passout", "pass:x")
    openssl(folder, "pkey", "-in", "ec.key", *encrypted, "-out", "encrypted.key")
    openssl(folder, "rsa", "-in", "rsa.key", *encrypted, "-traditional", "-out", "traditional.key")
    openssl(folder, "ec", "-in", "ec.key", "-out", "sec1.key")
    return folder


def of(*parts: str) -> str:
    """Return the texts of files, one after the other."""
    return "".join((made() / part).read_text() for part in parts)


def gathered(
    path: Path, *, now: datetime | None = None, key: Path | None = None, **settings: Any
) -> Gathered:
    files = CertificateFiles(path=str(path), key=None if key is None else str(key))
    return gather([TlsContext(certificates=(files,), **settings)], now=now)


def chain_of(folder: Path, text: str, **settings: Any) -> Chain:
    path = folder / "c.pem"
    path.write_text(text)
    found = gathered(path, **settings)
    assert found.faults == []
    (chain,) = found.material.chains
    return chain


def fault_of(folder: Path, text: str | bytes, **settings: Any) -> str:
    path = folder / "c.pem"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    (fault,) = gathered(path, **settings).faults
    assert (fault.key, fault.index) == ("certificates", 0) or fault.index is None
    return fault.text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ec", "EC"), ("rsa", "RSA"), ("p384", "EC"), ("ed25519", "Ed25519"), ("ed448", "Ed448")],
)
def test_every_kind_of_key_that_tls_has(tmp_path: Path, name: str, kind: str) -> None:
    chain = chain_of(tmp_path, of(f"{name}.pem"))
    assert (chain.kind, chain.names) == (kind, (name,))


def test_the_names_are_those_of_the_alternative_names_in_lower_case(tmp_path: Path) -> None:
    names = ("mail.example.org", "*.example.net", "a.example.org", "192.0.2.1", "::1")
    assert chain_of(tmp_path, of("many.pem")).names == names
    assert chain_of(tmp_path, of("nameless.crt", "nameless.key")).names == ()


@pytest.mark.parametrize("parts", [("ec.key", "ec.crt", "ca.pem"), ("ec.crt", "ca.pem", "sec1.key")])
def test_the_order_of_key_and_certificates_does_not_matter(tmp_path: Path, parts: tuple[str, ...]) -> None:
    chain = chain_of(tmp_path, "a text before\n" + of(*parts).replace("\n", "\r\n") + "\nand one after")
    key = next(part for part in parts if part.endswith(".key"))
    private = of(key)[of(key).index("-----BEGIN " + ("EC PRIVATE" if key == "sec1.key" else "PRIVATE")) :]
    assert chain.pem == of("ec.crt", "ca.pem") + private


def test_until_when_it_is_valid_and_what_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "c.pem"
    path.write_text(of("ec.pem"))
    (certificate,) = gathered(path).certificates
    left = datetime.fromtimestamp(certificate.not_after, UTC) - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)
    printed = openssl(made(), "x509", "-in", "ec.crt", "-noout", "-fingerprint", "-sha256").decode()
    assert printed.strip().rpartition("=")[2].replace(":", "").lower() == certificate.fingerprint
    assert certificate.path == str(path)


def test_it_is_described_by_the_variables_of_mod_ssl(tmp_path: Path) -> None:
    names = (
        "-nodes",
        "-x509",
        "-days",
        "30",
        "-utf8",
        "-keyout",
        "dn.key",
        "-out",
        "dn.crt",
        "-set_serial",
        "0x0abc",
    )
    subject = "/C=DE/ST=Bavaria/L=München/O=Example/OU=Mail/CN=mail.example.org/emailAddress=a@example.org"
    openssl(tmp_path, "req", *certificates.EC, *names, "-subj", subject)
    text = (tmp_path / "dn.crt").read_text()
    chain = chain_of(tmp_path, text + (tmp_path / "dn.key").read_text())
    found = dict(chain.described)
    dates = openssl(tmp_path, "x509", "-in", "dn.crt", "-noout", "-dates").decode().splitlines()
    one_line = (
        "/C=DE/ST=Bavaria/L=M\\xC3\\xBCnchen/O=Example/OU=Mail/CN=mail.example.org/emailAddress=a@example.org"
    )
    parts = {
        "C": "DE", "ST": "Bavaria", "L": "München", "O": "Example", "OU": "Mail", "CN": "mail.example.org",
        "Email": "a@example.org",
    }  # fmt: skip
    assert found == {
        "SSL_SERVER_M_VERSION": "3",
        "SSL_SERVER_M_SERIAL": "ABC",
        "SSL_SERVER_S_DN": one_line,
        "SSL_SERVER_I_DN": one_line,
        **{f"SSL_SERVER_{whose}_DN_{part}": value for whose in "SI" for part, value in parts.items()},
        "SSL_SERVER_V_START": dates[0].partition("=")[2],
        "SSL_SERVER_V_END": dates[1].partition("=")[2],
        "SSL_SERVER_A_SIG": "ecdsa-with-SHA256",
        "SSL_SERVER_A_KEY": "id-ecPublicKey",
        "SSL_SERVER_CERT": text,
    }


NOT_COMPLETE = "a part of it begins and does not end: it is not written completely"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), "no certificate in it"),
        (("ec.key",), "no certificate in it"),
        (("ec.crt",), "no private key in it: name the file that has it as key, or the directory of both"),
        (("ec.crt", "other.key"), "the private key in it does not belong to the certificate"),
        (("ec.crt", "ec.key", "ec.key"), "2 private keys in it, expected one"),
        (
            ("ca.pem", "ec.crt", "ec.key"),
            "the certificate of the key is number 2 in it: it must be the first",
        ),
        (
            ("ec.crt", "other.crt", "ec.key"),
            "certificate 2 in it did not sign certificate 1: each must be followed by the one that signed it",
        ),
        (("ec.crt", "ca.pem", "other.crt", "ec.key"), "certificate 3 in it did not sign certificate 2"),
        (("ec.crt", "encrypted.key"), "the private key is encrypted, and there is nobody to ask"),
        (("rsa.crt", "traditional.key"), "the private key is encrypted, and there is nobody to ask"),
        (("brainpool.pem",), "the key is on curve brainpoolP256r1, which TLS does not have"),
        (("short.pem",), "the key has 1024 bits, expected at least 2048"),
    ],
)
def test_what_is_wrong_with_a_pair(tmp_path: Path, parts: tuple[str, ...], expected: str) -> None:
    assert fault_of(tmp_path, of(*parts)).startswith(expected)


def test_a_chain_is_bounded(tmp_path: Path) -> None:
    assert (
        fault_of(tmp_path, of(*["ca.pem"] * 17, "ca.key")) == "17 certificates in it, at most 16 are allowed"
    )


@pytest.mark.parametrize("name", ["ec.crt", "ec.key"])
def test_a_file_that_is_half_written_is_seen_as_such(tmp_path: Path, name: str) -> None:
    whole = of("ec.crt", "ec.key")
    start = whole.index(of(name))
    for cut in (start + 30, start + len(of(name)) // 2, start + len(of(name)) - 30):
        assert fault_of(tmp_path, whole[:cut]) == NOT_COMPLETE


@pytest.mark.parametrize(
    ("label", "expected"),
    [("CERTIFICATE", "certificate 1 in it is damaged: "), ("PRIVATE KEY", "the private key is damaged: ")],
)
def test_what_is_damaged_is_said(tmp_path: Path, label: str, expected: str) -> None:
    begin = f"-----BEGIN {label}-----\n"
    for nonsense in ("AAAA", "!!!!"):
        whole = of("ec.crt", "ec.key")
        head, _, rest = whole.partition(begin)
        text = f"{head}{begin}{nonsense}{rest[4:]}"
        assert fault_of(tmp_path, text).startswith(expected)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    assert fault_of(tmp_path, b"\x30\x82\xff\0" * 100) == "no certificate in it"
    text = b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n"
    assert fault_of(tmp_path, text) == "is not a PEM file: it has other characters than ASCII"


def test_the_time_is_within_that_of_every_certificate(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    chain_of(tmp_path, of("ec.pem"), now=now + timedelta(days=29))
    assert fault_of(tmp_path, of("ec.pem"), now=now + timedelta(days=31)).startswith(
        "the certificate expired on 20"
    )
    assert fault_of(tmp_path, of("ec.pem"), now=now - timedelta(days=1)).startswith(
        "the certificate is not valid before 20"
    )
    certificates.make(made(), "long", days="300")
    text = fault_of(tmp_path, of("long.crt", "ca.pem", "long.key"), now=now + timedelta(days=31))
    assert text.startswith("certificate 2 in it expired on 20")
    assert text.endswith(" UTC")


def test_a_key_in_a_file_of_its_own() -> None:
    assert gathered(made() / "ec.crt", key=made() / "ec.key").faults == []
    (fault,) = gathered(made() / "ec.crt", key=made() / "other.key").faults
    key = made() / "other.key"
    assert fault.text == f"{made()}/ec.crt: the private key in {key} does not belong to the certificate"
    (fault,) = gathered(made() / "ec.crt", key=made() / "ca.pem").faults
    assert fault.text == f"{made()}/ca.pem: no private key in it"


@pytest.mark.parametrize("size", [MAX_FILE, MAX_FILE + 1])
def test_a_file_is_bounded(tmp_path: Path, size: int) -> None:
    text = of("ec.pem")
    path = tmp_path / "c.pem"
    path.write_text(text + "\n" * (size - len(text)))
    expected = [] if size == MAX_FILE else [f"{path}: has more than {MAX_FILE} bytes"]
    assert [fault.text for fault in gathered(path).faults] == expected


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (fault,) = gathered(tmp_path / "fifo").faults
    assert fault.text == f"{tmp_path}/fifo: is not a regular file"
    (fault,) = gathered(tmp_path / "missing").faults
    assert fault.text == f"{tmp_path}/missing: No such file or directory"
    (fault,) = gathered(tmp_path / "fifo/x").faults
    assert fault.text == f"{tmp_path}/fifo/x: Not a directory"


def test_a_certificate_that_the_library_refuses_with_the_ciphers(tmp_path: Path) -> None:
    text = fault_of(tmp_path, of("ec.pem"), ciphers="ECDHE+AES:@SECLEVEL=5")
    assert text.startswith("refused by OpenSSL")


def test_strict_needs_a_name(tmp_path: Path) -> None:
    text = fault_of(tmp_path, of("nameless.crt", "nameless.key"), sni="strict")
    assert text == "no certificate has a name (subjectAltName), so strict would refuse all clients"


def test_one_certificate_in_several_places_is_there_once() -> None:
    files = tuple(
        CertificateFiles(path=str(made() / name)) for name in ("ec.pem", "e[c].pem", "rsa.pem", "ec.pem")
    )
    found = gather([TlsContext(certificates=files), TlsContext(certificates=files[2:], sni="strict")])
    assert [chain.kind for chain in found.material.chains] == ["EC", "RSA"]
    assert [context.chains for context in found.material.contexts] == [(0, 1), (1, 0)]


def test_the_faults_of_all_are_found_at_once(tmp_path: Path) -> None:
    files = tuple(
        CertificateFiles(path=str(path)) for path in (tmp_path / "a", made() / "ec.pem", made() / "ec.crt")
    )
    context = TlsContext(
        certificates=files, ciphers="FOO", client_certificates="require", client_ca=str(tmp_path / "b")
    )
    found = [(fault.key, fault.index) for fault in gather([context]).faults]
    assert found == [("ciphers", None), ("certificates", 0), ("certificates", 2), ("client_ca", None)]
