import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.net.inet import pack, unpack


@given(st.binary(min_size=16, max_size=16))
def test_every_16_bytes_survive_the_way_through_text(packed: bytes) -> None:
    assert pack(unpack(packed)) == packed


@given(st.ip_addresses().map(str))
def test_every_address_survives_the_way_through_bytes(ip: str) -> None:
    assert pack(unpack(pack(ip))) == pack(ip)
    assert len(pack(ip)) == 16


def test_ipv4_is_mapped() -> None:
    assert pack("192.0.2.1") == pack("::ffff:192.0.2.1") == bytes(10) + b"\xff\xff\xc0\x00\x02\x01"
    assert unpack(pack("192.0.2.1")) == "192.0.2.1"


def test_the_scope_is_cut_off() -> None:
    assert unpack(pack("fe80::1%eth0")) == "fe80::1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.4%eth0",
        ":",
        "::g",
        "localhost",
        "1.2.3.4\0",
        "\u0661.2.3.4",
        ":\ud800",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        pack(text)


@given(st.text(alphabet="0123456789abfg.:%/ "))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        packed = pack(text)
    except ValueError:
        return
    assert len(packed) == 16


@pytest.mark.parametrize("length", [0, 12, 14, 15, 17])
def test_bytes_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="packed IP"):
        unpack(pack("192.0.2.1").ljust(20, b"x")[:length])
