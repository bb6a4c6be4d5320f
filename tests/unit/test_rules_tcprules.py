import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.errors import ConfigError
from ucspid.rules.cdb import Cdb
from ucspid.rules.keys import parse, stored
from ucspid.rules.tcprules import MAX_PROBLEMS, compile_text, install, parse_text

LINE = st.lists(
    st.sampled_from([*'019.-@=,:/"x# \t+\0_^', "1.2.3.0/24", "::1", ":allow", ":deny", ',A="b c"']),
    max_size=9,
).map("".join)


def records(text: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, data) for _, key, data in Cdb(compile_text(text, "f"), "f").records()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        (" \t", []),
        ("# 1.2.3.4:nonsense", []),
        ("1.2.3.4 deny", []),
        (" #:allow", [(" #", "")]),
        (":deny", [("", "D\0")]),
        ("1.2.3.4:allow \t ", [("1.2.3.4", "")]),
        (" 1.2.3.4:allow", [(" 1.2.3.4", "")]),
        ("=a.example:allow", [("=a.example", "")]),
        ("joe@=.example:deny", [("joe@=.example", "D\0")]),
        (':deny,A="b",C=/d "e"/', [("", 'D\0+A=b\0+C=d "e"\0')]),
        (':allow,A="",A=xx, B=,,', [("", "+A=\0+A=\0+ B=\0")]),
        (':allow,A,B=="=', [("", '+A,B="\0')]),
        (':allow,A=" "  ', [("", "+A= \0")]),
        (':allow,A=":deny"', [("", "+A=:deny\0")]),
        ("1.2.3.9-11:allow", [("1.2.3.9", ""), ("1.2.3.10", ""), ("1.2.3.11", "")]),
        ("10.2-3.:allow", [("10.2.", ""), ("10.3.", "")]),
        ("1-2.3-4.:allow", [("1.3-4.", ""), ("2.3-4.", "")]),
        ("254-999.:allow", [("254.", ""), ("255.", "")]),
        ("10.-1:allow", [("10.0", ""), ("10.1", "")]),
        ("-:allow", [("0", "")]),
        ("007-08:allow", [("7", ""), ("8", "")]),
        ("2-1:allow", []),
        ("18446744073709551617-2:allow", [("1", ""), ("2", "")]),
        ("u@1-2:allow", [("u@1-2", "")]),
        ("=a-2:allow", [("=a-2", "")]),
    ],
)
def test_a_line_gives_the_records_that_tcprules_makes(line: str, expected: list[tuple[str, str]]) -> None:
    assert records(line.encode()) == [(key.encode(), data.encode()) for key, data in expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("192.0.2.0/24:allow", b"_ab00000000000000000000w0"),
        ("128.0.0.0/1:allow", b"_a"),
        ("0.0.0.0/0:allow", b"_"),
        ("192.0.2.7/32:allow", b"192.0.2.7"),
        ("a000::/8:allow", b"^`0a00000"),
        ("::/0:allow", b"^"),
        ("2001:db8::1:allow", b"2001:0DB8:0000:0000:0000:0000:0000:0001"),
        ("2001:DB8:0::1/128:allow", b"2001:0DB8:0000:0000:0000:0000:0000:0001"),
        ("joe@2001:db8::1:allow", b"joe@2001:0DB8:0000:0000:0000:0000:0000:0001"),
        ("::ffff:192.0.2.7:allow", b"192.0.2.7"),
        ("::ffff:128.0.0.0/97:allow", b"_a"),
        ("a000:allow", b"a000"),
        ("a000::allow", b"^`0a0000000000000"),
        ("_joe@::1:allow", b"_joe@0000:0000:0000:0000:0000:0000:0000:0001"),
        ("joe:x@192.0.2.7:allow", b"joe:x@192.0.2.7"),
        ("=a:b:allow", b"=a:b"),
    ],
)
def test_addresses_that_tcprules_has_no_notion_of_are_stored_as_ucspi_tcp6_does(
    line: str, expected: bytes
) -> None:
    assert records(line.encode()) == [(expected, b"")]


@given(st.sampled_from([32, 128]), st.data())
def test_a_stored_network_is_read_back(width: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, width - 1))
    value = data.draw(st.integers(0, 2**length - 1)) << (width - length)
    packed = value.to_bytes(width // 8)
    groups = [packed[at : at + 2].hex() for at in range(0, 16, 2)]
    text = (".".join(map(str, packed)) if width == 32 else ":".join(groups)) + f"/{length}"
    target = parse(text.encode())
    key = stored(text.encode(), target)
    assert parse(key) == target
    assert key == stored(key, target)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1.2.3.4:", "no :allow or :deny"),
        ("1.2.3.4: allow", "no :allow or :deny"),
        ("1.2.3.4:Allow", "no :allow or :deny"),
        (":allow\r", 'what follows the verdict is not ,NAME="VALUE"'),
        (":denyx", 'what follows the verdict is not ,NAME="VALUE"'),
        (":allow,", 'what follows the verdict is not ,NAME="VALUE"'),
        (":allow,A", 'what follows the verdict is not ,NAME="VALUE"'),
        (":allow,A=", 'what follows the verdict is not ,NAME="VALUE"'),
        (':allow,A="b', 'what follows the verdict is not ,NAME="VALUE"'),
        (':allow,A="b",', 'what follows the verdict is not ,NAME="VALUE"'),
        (':allow,="b"', "a variable without a name"),
        (':allow,A="\0"', "a NUL byte"),
        ("a-2:allow", "the bound of a range is not a number"),
        ("1-2-3:allow", "the bound of a range is not a number"),
        (f"{'9' * 5000}-3:allow", "integer string conversion"),
        ("192.0.2.0/33:allow", "prefix length 33 is over 32"),
        ("192.0.2.1/24:deny", "has bits set after its first 24: 192.0.2.0/24 or 192.0.2.1?"),
        ("joe@192.0.2.0/24:deny", "a user can be combined with one address or host"),
        ("joe@2001:db8::deny", "a user can be combined with one address or host"),
        ("2001:db8:::deny", "can be read as an address or as a prefix: write 2001:db8::/LENGTH"),
        ("2001:db8::g:deny", "not an IP address: '2001:db8::g'"),
    ],
)
def test_a_wrong_line_is_named_with_the_reason(line: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_text(f"# first\n{line}\n".encode(), "rules")
    (problem,) = caught.value.problems
    assert problem.startswith("rules:2: ")
    assert why in problem
    assert problem.endswith(f": {line[:200]!r}")


def test_all_wrong_lines_are_named_until_there_are_too_many() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_text(b"x:y\n:allow\n" * 100, "rules")
    places = [problem.split(": ")[0] for problem in caught.value.problems]
    assert places == [f"rules:{2 * number + 1}" for number in range(MAX_PROBLEMS)]


@given(st.one_of(st.binary(), st.lists(LINE, max_size=5).map("\n".join).map(str.encode)))
def test_any_text_is_compiled_or_refused(text: bytes) -> None:
    try:
        content = compile_text(text, "rules")
    except ConfigError:
        return
    assert [record.key for record in Cdb(content, "f").records()] == [
        stored(record.key, record.target) for record in parse_text(text, "rules")
    ]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "rules.cdb"
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        install(b"new", str(target))
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "rules.cdb"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        install(b"new", str(target))
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    target = tmp_path / "rules.cdb"
    Path(f"{target}.{os.getpid()}.tmp").symlink_to(other)
    with pytest.raises(FileExistsError):
        install(b"new", str(target))
    assert other.read_bytes() == b"other"
    assert not target.exists()
