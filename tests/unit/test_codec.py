"""What is packed is read back, as a C compiler would lay it out, and anything else is refused."""

import ctypes
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans import LIMITS, NUMBERS, PROFILES, TEXT
from ucspid.codec import (
    I32,
    U8,
    U16,
    U32,
    U64,
    Bytes64,
    Flag,
    NamedLimits,
    Numbers,
    OptI32,
    OptNumbers,
    OptText,
    OptU32,
    OptU64,
    Packed,
    Rest,
    Strings,
    Text,
)
from ucspid.errors import WireError
from ucspid.profile import Profile


class Fixed(Packed, kind=7):
    small: U8
    wide: U64
    flag: Flag
    medium: U16
    signed: I32
    number: U32
    tag: Bytes64
    last: U8


class Everything(Packed, kind=9):
    number: OptU32
    numbers: Numbers
    signed: OptI32
    text: Text
    wide: OptU64
    perhaps: OptText
    none_or_numbers: OptNumbers
    strings: Strings
    limits: NamedLimits
    part: Profile
    rest: Rest


class Bare(Packed, kind=11):
    """Nothing but its kind."""


opt_u32 = st.none() | st.integers(0, 2**32 - 2)
opt_i32 = st.none() | st.integers(1 - 2**31, 2**31 - 1)
everything = st.builds(
    Everything,
    number=opt_u32,
    numbers=NUMBERS,
    signed=opt_i32,
    text=TEXT,
    wide=st.none() | st.integers(0, 2**64 - 2),
    perhaps=st.none() | TEXT,
    none_or_numbers=st.none() | NUMBERS,
    strings=st.lists(st.binary()).map(tuple),
    limits=LIMITS,
    part=PROFILES,
    rest=st.binary(),
)


@given(everything)
def test_what_is_packed_is_read_back(sent: Everything) -> None:
    got = Everything.unpack(sent.pack())
    assert got == sent
    assert hash(got) == hash(sent)
    assert eval(repr(got)) == sent


@given(everything, st.data())
def test_what_is_cut_short_is_refused(sent: Everything, data: st.DataObject) -> None:
    packet = sent.changed(rest=b"").pack()
    with pytest.raises(WireError):
        Everything.unpack(packet[: data.draw(st.integers(0, len(packet) - 1))])


@given(PROFILES, st.binary(min_size=1))
def test_what_has_more_behind_is_refused(sent: Profile, more: bytes) -> None:
    assert Profile.unpack(sent.pack()) == sent
    with pytest.raises(WireError):
        Profile.unpack(sent.pack() + more)


@given(st.binary())
def test_any_bytes_are_what_they_say_or_refused(data: bytes) -> None:
    for packet in (data, bytes([9]) + data):
        try:
            got = Everything.unpack(packet)
        except WireError:
            continue
        assert Everything.unpack(got.pack()) == got


def test_numbers_stand_where_a_c_compiler_puts_them() -> None:
    class Struct(ctypes.LittleEndianStructure):
        _fields_ = (
            ("kind", ctypes.c_uint8),
            ("small", ctypes.c_uint8),
            ("wide", ctypes.c_uint64),
            ("flag", ctypes.c_bool),
            ("medium", ctypes.c_uint16),
            ("signed", ctypes.c_int32),
            ("number", ctypes.c_uint32),
            ("tag", 64 * ctypes.c_char),
            ("last", ctypes.c_uint8),
        )

    values: list[Any] = [1, 2**63, True, 4, -5, 6, bytes(range(1, 65)), 7]
    packet = Fixed(*values).pack()
    assert packet == bytes(Struct(7, *values))[: len(packet)]
    assert len(packet) == Struct.last.offset + 1


def test_a_packet_of_another_kind_is_refused() -> None:
    assert Bare.unpack(b"\x0b") == Bare()
    for packet in (b"", b"\x0a", b"\x0b\x00"):
        with pytest.raises(WireError):
            Bare.unpack(packet)


def test_a_number_that_a_field_cannot_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="small"):
        Fixed(256, 0, flag=False, medium=0, signed=0, number=0, tag=b"", last=0).pack()


def test_fields_have_defaults_or_must_be_given() -> None:
    assert Profile() == Profile(uid=None, rlimits=())
    with pytest.raises(AttributeError):
        Fixed(1)  # type: ignore[call-arg]


def test_one_of_another_version_is_read_by_the_names_of_its_fields() -> None:
    written = vars(Profile(uid=3, groups=(4, 5), rlimits=(("cpu", None),))) | {"new": 1}
    del written["nice"]
    plain = json.loads(json.dumps(written))
    assert Profile.from_plain(plain) == Profile(uid=3, groups=(4, 5), rlimits=(("cpu", None),))
