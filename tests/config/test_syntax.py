"""YAML's syntax errors: the same plain words from both parsers, with the line and the place in it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ucspid.config.load import load
from ucspid.config.positions import read
from ucspid.config.problems import Problems
from ucspid.config.syntax import explain, split_lines
from ucspid.errors import ConfigError

INSIDE = "a colon with a space after it, inside a value: quote the value"
NO_COLON = "neither KEY: VALUE nor an item of a list: is a colon missing?"
ITEM = "an item of a list begins a line of its own, or stands in [ ] without its -"
TAB = "a tab: lines are indented with spaces only"

MISTAKES = [
    # tabs
    ("services:\n\ts:\n", (2, 1), TAB),
    ("services:\n  s:\n    listen: 25\n\tprogram: [x]\n", (4, 1), TAB),
    ("services:\n  s:\n  \tlisten: 25\n", (3, 3), TAB),
    ("services:\r\n\ts:\r\n", (2, 1), TAB),
    ("s:\n  -\ta: b\n", (2, 4), "a tab: write spaces"),
    # colons
    ("a:\n  message: 421: later\n", (2, 15), INSIDE),
    ("a:\n  - x: y: z\n", (2, 9), INSIDE),
    ("a: [sh, -c, b: c: d]\n", (1, 17), "a colon with a space after it, inside [ ]: quote the value"),
    ("s:\n  listen:25\n  b: c\n", (2, 10), "a space is missing after the colon"),
    ("s:\n  b: c\n  listen:25\n", (3, 10), "a space is missing after the colon"),
    ("listen 25\nb: c\n", (1, 1), NO_COLON),
    ("s:\n  b\n  # x\n\n  c: d\n", (2, 3), NO_COLON),
    (": b\n", (1, 1), "a key is missing before the colon"),
    (f"{'x' * 1100}: b\n", (1, 1101), "a key cannot be as long as this"),
    # indentation
    ("a: b\n  c: d\n", (2, 3), "indented further than line 1, which has a value already"),
    (
        "s:\n    listen: 25\n   program: [x]\n",
        (3, 4),
        "indented by 3, which is neither the 4 of line 2 nor the 0 of line 1",
    ),
    ("a:\n  - b\n - c\n", (3, 2), "indented by 1, which is neither the 2 of line 2 nor the 0 of line 1"),
    (
        "a:\n  - b\n   - c\n  -d: e\n",
        (4, 3),
        "a key in the place of an item of the list that begins at line 2",
    ),
    ("a:\n  - b: c\n  d: e\n", (3, 3), "a key in the place of an item of the list that begins at line 2"),
    ("- - b\n -  c\n", (2, 2), "indented by 1, and not by 0 as line 1"),
    ("a: b\n- c\n", (2, 1), "an item of a list in the place of a key"),
    ("a: - b\n", (1, 4), ITEM),
    ("a: [\n- b\n]\n", (2, 1), ITEM),
    ("a: |\n  b\n c\n", (3, 2), "indented by 1, which is neither the 2 of line 2 nor the 0 of line 1"),
    ("a: [\n\n", (1, 5), "the file ends where a value is expected"),
    # quotes
    ('a: "b\nc: d\n', (1, 4), 'the quote " that opens here is never closed'),
    ("a: 'b\nc: d\n", (1, 4), "the quote ' that opens here is never closed"),
    ('a: "b\nc: "d"\n', (2, 4), 'this " closes a text that an earlier line opens'),
    ('a: "b" c\n', (1, 8), 'something follows the closing "; inside of a text it is written \\"'),
    ("a: 'it's'\n", (1, 8), "something follows the closing '; inside of a text it is written ''"),
    (
        'a: "C:\\dir"\n',
        (1, 7),
        "in double quotes \\d is not an escape: write \\\\ for a backslash, or use single quotes",
    ),
    (
        'a: "\\x4"\n',
        (1, 5),
        "in double quotes \\x needs more digits: write \\\\ for a backslash, or use single quotes",
    ),
    # brackets
    ("a: [b, c\nd: e\n", (1, 4), "the [ that opens here is not closed by ]"),
    ("a: {b: c\n", (1, 4), "the { that opens here is not closed by }"),
    ("a: [b]]\n", (1, 7), "] closes nothing: no [ is open"),
    ("a: {b: c}}\n", (1, 10), "} closes nothing: no { is open"),
    ("a: ]\n", (1, 4), "] closes nothing: no [ is open"),
    ('a: ["b" "c"]\n', (1, 9), "a comma or ] is missing before this"),
    ("a: {b: 'c' d: e}\n", (1, 12), "a comma or } is missing before this"),
    ("a: [b]c\n", (1, 7), "something follows a value that is complete: quote the whole value"),
    # characters with a meaning
    ("a: @b\n", (1, 4), "a value that begins with @ must be quoted"),
    ("a: `b`\n", (1, 4), "a value that begins with ` must be quoted"),
    ("a: %b\n", (1, 4), "a value that begins with % must be quoted"),
    ("a: ,b\n", (1, 4), "a value that begins with , must be quoted"),
    ("a: *:25\n", (1, 4), "a value that begins with * must be quoted: there it begins an alias"),
    ("a: & b\n", (1, 4), "a value that begins with & must be quoted: there it begins a name for an alias"),
    ("a: ? b\n", (1, 4), "a value that begins with ? must be quoted: there it begins a key"),
    ("a: |x\n  b\n", (1, 5), "nothing may follow | on its line: quote a value that begins with it"),
    ("a: >5x\n  b\n", (1, 6), "nothing may follow > on its line: quote a value that begins with it"),
    ("%b\n", (1, 1), "a line cannot begin with %"),
    ("%YAML 3.0\n---\na: b\n", (1, 1), "a line cannot begin with %"),
    ("a: b\n...\nc: d\n", (3, 1), "nothing may follow the end of the document"),
]


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    return str(request.param)


def problems_of(text: str) -> list[str]:
    problems = Problems()
    assert read(text.encode(), problems) is None
    return problems.lines("f")


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(("text", "place", "meaning"), MISTAKES)
def test_a_mistake_is_said_in_plain_words_where_it_is(
    text: str, place: tuple[int, int], meaning: str
) -> None:
    first, source, mark = problems_of(text)
    assert first == f"f:{place[0]}:{place[1]}: {meaning}"
    assert mark.strip() == "^"
    assert source.startswith("    ")


def test_the_line_is_shown_and_the_place_marked() -> None:
    assert problems_of("a: b\nmessage: 421: later\n")[1:] == ["    message: 421: later", "                ^"]


@pytest.mark.parametrize(
    ("line", "shown", "column"),
    [
        ("über: straße: x", "über: straße: x", 12),
        ("日本: 語: x", "日本: 語: x", 8),
        ("e\u0301: a: x", "e\u0301: a: x", 4),
        ("a\u202e: b: x", "a\\u202e: b: x", 10),
        (f"{'y' * 300}: z: x", f"...{'y' * 42}: z: x", 48),
        (f"y: z: {'x' * 300}", f"y: z: {'x' * 84}...", 4),
    ],
)
def test_the_mark_stands_below_the_place_whatever_is_before_it(line: str, shown: str, column: int) -> None:
    assert problems_of(f"{line}\n")[1:] == [f"    {shown}", f"    {' ' * column}^"]


def test_a_tab_is_visible() -> None:
    assert problems_of("a:\n  \tb: c\n")[1:] == ["      \\tb: c", "      ^"]


def test_the_line_is_shown_of_what_is_not_yaml_for_other_reasons() -> None:
    for data, place, marked in (
        (b"a: b\nc: \xff\n", "f:2:4: not UTF-8 text", "    c: \N{REPLACEMENT CHARACTER}"),
        (b"a: b\nc: \x07\n", "f:2:4: the character U+0007 is not allowed", "    c: \\x07"),
        (b"a: !!int 5\n", "f:1:4: tags are not supported: quote a value to make it text", "    a: !!int 5"),
    ):
        problems = Problems()
        assert read(data, problems) is None
        assert problems.lines("f") == [place, marked, "       ^"]


def test_check_prints_the_line(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("services:\n  s: {listen: 25, program: [/bin/sh]\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).splitlines() == [
        f"{path}:2:6: the {{ that opens here is not closed by }}",
        "      s: {listen: 25, program: [/bin/sh]",
        "         ^",
    ]


@pytest.mark.usefixtures("parser")
@given(st.text(alphabet="ab:-?|>&*!%@`'\"[]{},# \t\n\r\\\x85\u2028"))
def test_every_text_has_its_mistake_explained_at_a_place_in_it(text: str) -> None:
    try:
        list(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.MarkedYAMLError as error:
        lines = split_lines(text)
        line, column, meaning = explain(error, lines)
        assert 0 <= line < len(lines)
        assert 0 <= column <= len(lines[line])
        assert meaning


def test_a_line_as_long_as_the_file_takes_no_time() -> None:
    for line in ("- " * 400_000 + "a", "a" * 800_000, "a: " * 200_000, "[" * 10 + "a: b, " * 100_000):
        assert problems_of(f"b: c\n {line}: d: e\n")
