"""The command line of tcpserver: see tests/conformance for what the original makes of the same."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.plan import Rate
from ucspid.tcpserver.options import (
    LETTERS,
    QUIET,
    VERBOSE,
    WORDS,
    CommandLine,
    UsageError,
    bucket,
    number,
    parse,
)

TOP = Path(__file__).parents[2]


def parsed(line: str, **environ: str) -> CommandLine:
    return parse([*line.split(), "0", "25", "prog", "-x", "y"], environ)


def test_the_defaults_are_those_of_tcpserver() -> None:
    expected = CommandLine(host="0", port="25", program=["prog", "-x", "y"])
    assert parsed("") == parsed("--") == parsed("-Q") == expected
    assert (expected.limit, expected.backlog, expected.ident_timeout) == (40, 20, 26)
    assert (expected.remote_host, expected.ident, expected.paranoid) == (True, True, False)


def test_letters_stand_together_and_with_their_arguments() -> None:
    options = parsed("-vRHl0 -c 5 -b7 -xrules -B-B -t9")
    assert (options.verbosity, options.ident, options.remote_host) == (VERBOSE, False, False)
    assert (options.local_name, options.limit, options.backlog) == ("0", 5, 7)
    assert (options.rules, options.banner, options.ident_timeout) == ("rules", "-B", 9)


def test_a_later_option_overrides_an_earlier_one() -> None:
    options = parsed("-vq -hH -rR -pP -oO -dD -c1 -c2")
    assert (options.verbosity, options.remote_host, options.ident, options.paranoid) == (
        QUIET,
        False,
        False,
        False,
    )
    assert (options.keep_ip_options, options.nodelay, options.limit) == (False, True, 2)


def test_ids_come_from_the_environment_where_they_are_there() -> None:
    assert (parsed("-U", UID="7", GID="8").uid, parsed("-U", UID="7", GID="8").gid) == (7, 8)
    assert (parsed("-u5 -U", GID="8").uid, parsed("-U -u5", UID="7").uid) == (5, 5)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-z", "illegal option -- z"),
        ("-vz", "illegal option -- z"),
        ("--nothing", "illegal option -- nothing"),
        ("--max-per-ip 0", "max-per-ip: 0 is not a number of connections"),
        ("--rate 5", "rate: 5 is not a rate: write COUNT/s, COUNT/min, COUNT/h or COUNT/d"),
    ],
)
def test_what_is_wrong_is_named(line: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(line)
    assert str(caught.value) == why


@pytest.mark.parametrize("word", ["-c", "--max-per-ip"])
def test_a_missing_argument_is_named(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse([word], {})
    assert str(caught.value) == f"option requires an argument -- {word.strip('-')}"


def test_what_tcpserver_lacks_are_long_options() -> None:
    options = parsed("--max-per-ip 5 --rate-per-ip=10/min --rate 7/s --refuse-message busy --control /c -v")
    assert (options.max_per_ip, options.rate_per_ip, options.rate) == (5, "10/min", "7/s")
    assert (options.refuse_message, options.control, options.verbosity) == ("busy", "/c", VERBOSE)
    assert parsed("--print-config").print_config
    assert bucket("10/min") == Rate(count=10, seconds=60.0, burst=10)
    assert bucket(None) is None


def test_words_that_are_missing_are_none() -> None:
    assert (parse([], {}).host, parse(["0"], {}).port, parse(["0", "25"], {}).program) == (None, None, [])


@given(st.integers(0, 2**70), st.text(st.characters(exclude_characters="0123456789"), max_size=3))
def test_numbers_are_those_of_the_machine(value: int, rest: str) -> None:
    assert number(f"{value}{rest}") == value % 2**64


def test_what_is_no_number_is_zero() -> None:
    assert [number(text) for text in ("", "x", "-1", " 1")] == [0, 0, 0, 0]


@pytest.mark.parametrize("page", ["docs/man/tcpserver.1", "docs/tcpserver.md"])
def test_every_option_is_described(page: str) -> None:
    text = (TOP / page).read_text()
    mark = {"1": (r"^\.It Fl (\w)\b", r"^\.It Fl -([a-z-]+)"), "md": (r"`-(\w)`", r"`--([a-z-]+)")}
    letters, words = mark[page.rpartition(".")[2]]
    assert set(re.findall(letters, text, re.MULTILINE)) >= set(LETTERS.replace(":", ""))
    assert set(re.findall(words, text, re.MULTILINE)) >= WORDS
