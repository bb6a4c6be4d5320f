import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ucspid.config.positions import MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, Scalar, read
from ucspid.config.problems import Problems, under


def scalar(text: str) -> Scalar | list[Node] | dict[str, tuple[Node, Node]]:
    node = read(f"key: {text}\n".encode(), Problems())
    assert node is not None
    assert isinstance(node.value, dict)
    return node.value["key"][1].value


def problems_of(data: bytes) -> list[str]:
    problems = Problems()
    read(data, problems)
    return [line for line in problems.lines("f") if not line.startswith("    ")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25", 25),
        ("-3", -3),
        ("0", 0),
        ("1.5", 1.5),
        ("true", True),
        ("Yes", True),
        ("ON", True),
        ("false", False),
        ("no", False),
        ("Off", False),
        ("null", None),
        ("~", None),
        ("", None),
        ('"25"', "25"),
        ("'yes'", "yes"),
    ],
)
def test_plain_scalars_are_null_booleans_and_decimal_numbers(text: str, value: float | str | None) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "022",
        "0x19",
        "0b1",
        "0o22",
        "1_000",
        "60:30",
        "1e3",
        ".inf",
        ".nan",
        "+5",
        "1.",
        "2024-01-01",
        "yEs",
        "9" * 5000,
    ],
)
def test_what_yaml_1_1_would_make_numbers_or_dates_of_stays_text(text: str) -> None:
    assert scalar(text) == text


def test_a_node_knows_its_place() -> None:
    root = read("# é\nä:\n  - x\n  - {ö: y}\n".encode(), Problems())
    assert root is not None
    assert isinstance(root.value, dict)
    key, items = root.value["ä"]
    assert (key.line, key.column) == (2, 1)
    assert isinstance(items.value, list)
    assert isinstance(items.value[1].value, dict)
    value = items.value[1].value["ö"][1]
    assert (value.line, value.column) == (4, 9)


def test_a_merge_key_adds_what_is_not_given_and_earlier_ones_win() -> None:
    root = read(b"a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\n", Problems())
    assert root is not None
    assert isinstance(root.value, dict)
    merged = root.value["c"][1].value
    assert isinstance(merged, dict)
    assert {key: entry[1].value for key, entry in merged.items()} == {"x": 3, "y": 1, "z": 2}


def test_a_quoted_merge_key_is_a_key() -> None:
    root = read(b'c: {"<<": {x: 1}}\n', Problems())
    assert root is not None
    assert isinstance(root.value, dict)
    inner = root.value["c"][1].value
    assert isinstance(inner, dict)
    assert list(inner) == ["<<"]


def test_a_file_of_the_greatest_size_is_read_and_one_byte_more_refused() -> None:
    data = b"a: 1\n".ljust(MAX_BYTES, b"\n")
    assert problems_of(data) == []
    assert problems_of(data + b"\n") == [f"f:1:1: the file is larger than {MAX_BYTES} bytes"]


def test_nesting_is_bounded_without_reading_on() -> None:
    assert problems_of(b"[" * (MAX_DEPTH - 1) + b"1" + b"]" * (MAX_DEPTH - 1)) == []
    assert problems_of(b"[" * 500_000) == [f"f:1:{MAX_DEPTH + 1}: nested more than {MAX_DEPTH} deep"]


@pytest.mark.parametrize("merge", [False, True])
def test_aliases_that_multiply_are_refused(merge: bool) -> None:
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(10)) + "}"]
    for level in range(1, 12):
        inner = ", ".join(
            f"{'<<' if merge and n == 0 else f'k{level}x{n}'}: *a{level - 1}" for n in range(10)
        )
        lines.append(f"a{level}: &a{level} {{{inner}}}")
    (problem,) = problems_of("\n".join(lines).encode())
    assert problem.endswith(f"more than {MAX_NODES} values, with the aliases written out")


def test_a_byte_order_mark_is_skipped() -> None:
    assert problems_of("\ufeffa: 1\n".encode()) == []


def test_without_the_c_parser_half_a_surrogate_pair_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert problems_of(b'a: "\\ud800"\n') == ["f:1:4: half of a surrogate pair is not a character"]


def test_a_key_of_unusual_characters_is_quoted_in_paths() -> None:
    assert under("services", "a.b") == 'services."a.b"'
    assert under("", "a\n") == '"a\\n"'


def test_a_mistake_at_a_key_that_is_not_there_is_placed_at_the_one_around_it() -> None:
    problems = Problems()
    problems.places['services."a.b"'] = (7, 3)
    problems.add('services."a.b".listen[3]', "no")
    assert problems.lines("f") == ['f:7:3: services."a.b".listen[3]: no']
    assert problems.wrong('services."a.b".listen')
    assert problems.wrong('services."a.b"')
    assert not problems.wrong('services."a.b".program')


def test_a_mistake_is_one_line_of_bounded_length() -> None:
    problems = Problems()
    problems.add_at(1, 1, "a\nb\x1b" + "c" * 10_000)
    (line,) = problems.lines("f")
    assert line.startswith("f:1:1: a\\nb\\x1bccc")
    assert len(line) < 500


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.text("[]{}&*a:-,'\"! \n|>#", max_size=60).map(str.encode),
    )
)
def test_no_bytes_make_reading_fail(data: bytes) -> None:
    problems = Problems()
    node = read(data, problems)
    assert isinstance(node, Node) or problems.lines("f")
