import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.errors import ConfigError
from ucspid.rules import cdb
from ucspid.rules.cdb import Cdb, CdbError, make

RECORDS = st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=9)), max_size=30)
SAMPLE = [(b"1.2.3.", b"D\0"), (b"", b"+A=b\0"), (b"=a.example", b""), (b"", b"second")]


def read_all(content: bytes) -> list[cdb.CdbRecord]:
    return list(Cdb(content, "f").records())


@given(RECORDS)
def test_what_was_written_is_read_in_the_same_order(records: list[tuple[bytes, bytes]]) -> None:
    read = [(key, data) for _, key, data in Cdb(make(records, "f"), "f").records()]
    assert read == records


def found(content: bytes, key: bytes) -> bytes | None:
    """Find a key through the hash tables, as other readers of the format do."""
    hashed = cdb.hash_of(key)
    position, slots = struct.unpack_from("<II", content, 8 * (hashed % 256))
    for step in range(slots):
        slot = position + 8 * ((hashed // 256 + step) % slots)
        there, offset = struct.unpack_from("<II", content, slot)
        if offset == 0:
            return None
        key_length, data_length = struct.unpack_from("<II", content, offset)
        start = offset + 8 + key_length
        if there == hashed and content[offset + 8 : start] == key:
            return content[start : start + data_length]
    return None


@given(RECORDS, st.binary(max_size=5))
def test_the_hash_tables_find_the_first_record_of_a_key(
    records: list[tuple[bytes, bytes]], other: bytes
) -> None:
    content = make(records, "f")
    first = dict(reversed(records))
    for key in [*first, other]:
        assert found(content, key) == first.get(key)


def test_keys_of_one_hash_are_distinguished() -> None:
    keys = [b"ab", b"`C"]
    assert cdb.hash_of(keys[0]) == cdb.hash_of(keys[1])
    content = make([(key, key) for key in keys], "f")
    assert [found(content, key) for key in keys] == keys


def test_a_file_of_no_records_is_a_header_of_empty_tables() -> None:
    content = make([], "f")
    assert content == struct.pack("<II", 2048, 0) * 256
    assert list(Cdb(content, "f").records()) == []


def test_where_an_empty_table_is_does_not_matter() -> None:
    assert list(Cdb(bytes(2048), "f").records()) == []


def test_a_file_cut_short_anywhere_is_refused() -> None:
    content = make(SAMPLE, "f")
    for length in range(len(content)):
        with pytest.raises(CdbError):
            Cdb(content[:length], "f")


@pytest.mark.parametrize(
    ("offset", "word", "why"),
    [
        (0, 2**32 - 1, "hash table 0 is not inside the file"),
        (2048, 2**32 - 1, "the record is longer than the 93 bytes left"),
        (2052, 88, "the record is longer than the 93 bytes left"),
    ],
)
def test_an_error_names_the_file_and_the_offset(offset: int, word: int, why: str) -> None:
    content = bytearray(make([(b"1.2.3.", b"D\0"), *[(b"", b"12345678901")] * 4, (b"x", b"")], "f"))
    content[offset : offset + 4] = struct.pack("<I", word)
    if offset == 0:
        content[4:8] = struct.pack("<I", 1)
    with pytest.raises(CdbError) as caught:
        read_all(bytes(content))
    assert (caught.value.path, caught.value.offset, caught.value.why) == ("f", offset & ~4, why)
    assert str(caught.value) == f"f: byte {offset & ~4}: {why}"
    assert isinstance(caught.value, ConfigError)


@given(st.binary(max_size=40))
def test_any_short_file_is_refused(content: bytes) -> None:
    with pytest.raises(CdbError):
        read_all(content)


@given(
    st.lists(st.tuples(st.integers(0, 2300), st.binary(min_size=1, max_size=9)), min_size=1, max_size=8),
    st.integers(0, 60),
)
def test_a_file_with_any_bytes_changed_is_read_or_refused(changes: list[tuple[int, bytes]], cut: int) -> None:
    content = bytearray(make(SAMPLE, "f"))
    for offset, replacement in changes:
        content[offset : offset + len(replacement)] = replacement
    with contextlib.suppress(CdbError):
        read_all(bytes(content[: len(content) - cut]))


@given(
    st.dictionaries(st.integers(0, 255), st.tuples(st.integers(0, 2400), st.integers(0, 40)), max_size=6),
    st.binary(max_size=400),
)
def test_any_hash_tables_and_any_body_are_read_or_refused(
    tables: dict[int, tuple[int, int]], body: bytes
) -> None:
    header = b"".join(struct.pack("<II", *tables.get(number, (0, 0))) for number in range(256))
    with contextlib.suppress(CdbError):
        read_all(header + body)


def test_a_file_may_be_as_long_as_positions_reach_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(make(SAMPLE, "f"))
    monkeypatch.setattr(cdb, "MAX_BYTES", size)
    assert len(make(SAMPLE, "f")) == size
    for limit in (size - 1, 2050):
        monkeypatch.setattr(cdb, "MAX_BYTES", limit)
        with pytest.raises(CdbError, match=f"f: byte {limit}: a cdb can have no more than {limit} bytes"):
            make(SAMPLE, "f")
