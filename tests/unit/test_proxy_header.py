"""The PROXY protocol's header: every form, every way to be wrong, every split."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_headers import (
    AUTHORITY,
    CRC32C,
    NETNS,
    SIGNATURE,
    SSL,
    UNIQUE_ID,
    addresses,
    ssl,
    tcp4,
    tlv,
    v1,
    v2,
)
from ucspid.net.proxy_header import MAX_V1, MAX_V2, Ends, Header, ProxyHeaderError, crc32c, parse

BOTH = (1, 2)
ENDS = Ends(("192.0.2.7", 4321), ("198.51.100.1", 25))
UNIX = bytes(216)


def checked(header: bytes, *, wrong: bool = False) -> bytes:
    """Return a header of version 2 with its checksum put where zeros are: its last four bytes."""
    total = crc32c(header) ^ wrong
    return header[:-4] + struct.pack("!I", total)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (v1("192.0.2.7", "198.51.100.1"), ENDS),
        (v1("2001:db8::7", "2001:db8::1"), Ends(("2001:db8::7", 4321), ("2001:db8::1", 25))),
        (v1("2001:0DB8:0::7", "2001:db8::1"), Ends(("2001:db8::7", 4321), ("2001:db8::1", 25))),
        (v1("::ffff:192.0.2.7", "::ffff:198.51.100.1"), ENDS),
        (v1("192.0.2.7", "198.51.100.1", 0, 65535), Ends(("192.0.2.7", 0), ("198.51.100.1", 65535))),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:f:f:f:f:f:f:f ffff:f:f:f:f:f:f:f 65535 65535\r\n", None),
        (tcp4(), ENDS),
        (v2(addresses("2001:db8::7", "2001:db8::1"), 0x21), Ends(("2001:db8::7", 4321), ("2001:db8::1", 25))),
        (v2(addresses("::ffff:192.0.2.7", "::ffff:198.51.100.1"), 0x21), ENDS),
        (v2(UNIX, 0x31), None),
        (v2(b"", 0x00), None),
    ],
)
def test_every_form_names_the_ends_and_its_length(header: bytes, expected: Ends | None) -> None:
    found = parse(header + b"EHLO client\r\n", BOTH)
    assert found is not None
    assert (found.ends, found.size, found.local) == (expected, len(header), False)


def test_a_header_of_the_balancers_own_is_local() -> None:
    for body in (b"", addresses("192.0.2.7", "198.51.100.1"), b"\xff\xff\xff"):
        assert parse(v2(body, 0x00, command=0x20), BOTH) == Header(16 + len(body), 2, local=True)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"EHLO client\r\n", "no PROXY header"),
        (b"PROXYTCP4 ", "no PROXY header"),
        (b"\r\n\r\n\0\r\nQUIT\r", "no PROXY header"),
        (b"\0", "no PROXY header"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 25\n", "CR LF"),
        (b"PROXY TCP4  192.0.2.7 198.51.100.1 4321 25\r\n", "not of the form"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4321\r\n", "not of the form"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 25 \r\n", "not of the form"),
        (b"PROXY UDP4 192.0.2.7 198.51.100.1 4321 25\r\n", "not of the form"),
        (b"PROXY tcp4 192.0.2.7 198.51.100.1 4321 25\r\n", "not of the form"),
        (b"PROXY \r\n", "not of the form"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.1 4321 25\r\n", "an address that is none"),
        (b"PROXY TCP4 192.0.2.07 198.51.100.1 4321 25\r\n", "an address that is none"),
        (b"PROXY TCP4 2001:db8::7 2001:db8::1 4321 25\r\n", "not of TCP4"),
        (b"PROXY TCP6 192.0.2.7 198.51.100.1 4321 25\r\n", "not of TCP6"),
        (b"PROXY TCP6 fe80::1%eth0 fe80::2 4321 25\r\n", "not of TCP6"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n", "a port that is none"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 04321 25\r\n", "a port that is none"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 +4321 25\r\n", "a port that is none"),
        (b"PROXY TCP4 \xb9 198.51.100.1 4321 25\r\n", "not ASCII"),
        (b"PROXY UNKNOWN" + b"x" * MAX_V1, "more than 107"),
        (b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 15) + b"\r\n", "more than 107"),
        (v2(command=0x11), "command"),
        (v2(command=0x22), "command"),
        (tcp4()[:13] + b"\x12" + tcp4()[14:], "family"),
        (tcp4()[:13] + b"\x41" + tcp4()[14:], "family"),
        (v2(bytes(11)), "without room"),
        (v2(bytes(35), 0x21), "without room"),
        (v2(bytes(215), 0x31), "without room"),
        (v2(bytes(MAX_V2 - 15)), "at most 4096"),
        (v2(bytes(MAX_V2 - 15))[:16], "at most 4096"),
        (tcp4(b"\x01\x00"), "cut off"),
        (tcp4(b"\x01\x00\x05abcd"), "cut off"),
        (tcp4(tlv(SSL, b"\x07\0\0")), "cut off"),
        (tcp4(tlv(SSL, b"\x07\0\0\0\0\x21\0\x09TLSv1.3")), "cut off"),
        (tcp4(tlv(AUTHORITY, b"x" * 257)), "more than 256"),
        (tcp4(tlv(AUTHORITY, b"a\0b")), "control"),
        (tcp4(tlv(AUTHORITY, b"a\nb")), "control"),
        (tcp4(ssl(cipher=b"\x1b[2J")), "control"),
        (tcp4(tlv(UNIQUE_ID, bytes(129))), "unique id"),
        (tcp4(tlv(CRC32C, bytes(3))), "checksum"),
        (checked(tcp4(tlv(CRC32C, bytes(4))), wrong=True), "checksum"),
    ],
)
def test_what_is_wrong_is_said(header: bytes, why: str) -> None:
    with pytest.raises(ProxyHeaderError, match=why):
        parse(header, BOTH)


def test_values_become_variables_as_s6_names_them() -> None:
    header = checked(
        tcp4(
            tlv(0x01, b"h2"),
            tlv(AUTHORITY, b"mail.example.org"),
            tlv(NETNS, b"blue"),
            tlv(UNIQUE_ID, b"\0\xffid"),
            tlv(0x04, b"padding"),
            tlv(0xEA, b"of AWS"),
            ssl(cipher=b"TLS_AES_128_GCM_SHA256", name=b"client.example.org"),
            tlv(CRC32C, bytes(4)),
        )
    )
    found = parse(header, BOTH)
    assert found is not None
    assert dict(found.variables) == {
        b"SSL_ALPN_PROTOCOL": b"h2",
        b"SSL_TLS_SNI_SERVERNAME": b"mail.example.org",
        b"SSL_PROTOCOL": b"TLSv1.3",
        b"SSL_CIPHER": b"TLS_AES_128_GCM_SHA256",
        b"SSL_PEER_CERT_CN": b"client.example.org",
    }
    assert found.unique_id == b"\0\xffid"


def test_a_certificate_that_was_not_verified_names_nobody() -> None:
    found = parse(tcp4(ssl(name=b"root.example.org", verified=False)), BOTH)
    assert found is not None
    assert dict(found.variables) == {b"SSL_PROTOCOL": b"TLSv1.3"}


def test_a_client_that_does_not_use_tls_has_nothing_of_it() -> None:
    found = parse(tcp4(tlv(SSL, b"\0\0\0\0\0" + tlv(0x21, b"TLSv1.3"))), BOTH)
    assert found is not None
    assert found.variables == ()


@pytest.mark.parametrize("header", [v1("192.0.2.7", "198.51.100.1"), tcp4(ssl(), tlv(AUTHORITY, b"a"))])
def test_every_part_of_a_header_needs_more(header: bytes) -> None:
    assert all(parse(header[:length], BOTH) is None for length in range(len(header)))


@pytest.mark.parametrize(
    ("header", "version"), [(v1("192.0.2.7", "198.51.100.1"), 1), (v2(b"", 0, 0x20), 2), (tcp4(), 2)]
)
def test_a_version_that_is_not_wanted_is_refused_at_its_first_byte(header: bytes, version: int) -> None:
    for length in range(1, len(header) + 1):
        with pytest.raises(ProxyHeaderError, match=f"version {version}"):
            parse(header[:length], (3 - version,))
    assert parse(header, (version,)) is not None


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)]
)
def test_the_checksum_is_that_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


PIECES = st.sampled_from(
    [
        b"PROXY ",
        b"TCP4 ",
        b"UNKNOWN",
        b"192.0.2.7 ",
        b"25",
        b"\r\n",
        SIGNATURE,
        b"\x21\x11\0\x0c",
        b"\x20\0\0\0",
    ]
)


@given(st.lists(st.one_of(st.binary(max_size=40), PIECES), max_size=12))
def test_whatever_comes_is_a_header_needs_more_or_is_refused(pieces: list[bytes]) -> None:
    received = b"".join(pieces)
    try:
        found = parse(received, BOTH)
    except ProxyHeaderError:
        return
    if found is None:
        assert len(received) < MAX_V2
    else:
        assert found.size <= len(received)
        assert parse(received[: found.size], BOTH) == found


@given(st.data())
def test_a_header_that_was_tampered_with_does_no_harm(data: st.DataObject) -> None:
    header = bytearray(
        tcp4(ssl(cipher=b"TLS_AES_128_GCM_SHA256", name=b"a.b"), tlv(AUTHORITY, b"example.org"))
    )
    for _ in range(data.draw(st.integers(1, 6))):
        header[data.draw(st.integers(12, len(header) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse(bytes(header), BOTH)
    except ProxyHeaderError:
        return
    assert found is None or all(
        value.decode("utf-8", "replace").isprintable() for _, value in found.variables
    )


def test_a_checksum_finds_every_bit_of_the_addresses_that_was_changed() -> None:
    header = checked(tcp4(tlv(CRC32C, bytes(4))))
    assert parse(header, BOTH) is not None
    for place, bit in itertools.product(range(16, 28), range(8)):
        wrong = bytearray(header)
        wrong[place] ^= 1 << bit
        with pytest.raises(ProxyHeaderError):
            parse(bytes(wrong), BOTH)
