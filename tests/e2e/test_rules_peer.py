"""Comparison with Debian's ucspi-tcp: the same texts, the same files, the same answers."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reachable import IN_MEMORY, reachable
from tcprulescheck import tcprulescheck
from ucspid.errors import ConfigError
from ucspid.rules.lookup import RuleTable, table_from_cdb, table_from_text
from ucspid.rules.rule import Rule
from ucspid.rules.tcprules import compile_text

pytestmark = pytest.mark.skipif(
    shutil.which("tcprules") is None or shutil.which("tcprulescheck") is None,
    reason="tcprules and tcprulescheck are not installed (Debian: ucspi-tcp)",
)

PIECES = st.sampled_from([*'0129.-@=,"x# \t+\r', "255", "allow", "deny", "é", "\xff", 'A="b c"', ',B="d"'])
ADDRESS = st.lists(PIECES, max_size=6).map("".join)
VARIABLES = st.lists(
    st.sampled_from([',A="b"', ",B=/c/", ',Cd=""', ",D==,,E=", ",A=x", " ", "\t"]), max_size=3
).map("".join)
VERDICT = st.sampled_from([":allow", ":deny"])
LINE = st.one_of(
    st.tuples(ADDRESS, VERDICT, VARIABLES).map("".join),
    st.tuples(ADDRESS, ADDRESS).map(":".join),
    ADDRESS,
).filter(lambda line: ",=" not in line)

HOSTS = ["a.b.c", "b.c", "c", ".b.c", "a..c", "x.", ""]
INFOS = ["u", "", "=", "u@=a"]
IPS = ["1.2.3.4", "1.2.3.5", "1.2.30.4", "1.20.3.4", "10.2.3.4"]
KEYS = [
    *(ip[:end] for ip in IPS for end in (2, 3, 4, 5, 6, 7, 8)),
    *("1.2.3.4-5", "1.2-20.", "1.-2.", "0-255."),
    *("=" + host for host in [*HOSTS, ".c", ".b"]),
    *(f"{info}@{ip}" for info in INFOS for ip in IPS),
    *(f"{info}@={host}" for info in INFOS for host in HOSTS),
]
SOUND_VARIABLES = st.lists(st.sampled_from([',A="b"', ",A=/c/", ',Cd=""', ",D==,,E="]), max_size=3).map(
    "".join
)
RULE = st.tuples(st.sampled_from(KEYS), VERDICT, SOUND_VARIABLES).map("".join)
TEXT = st.lists(RULE, max_size=25, unique=True).map("\n".join).map(str.encode)
CLIENT = st.tuples(
    st.sampled_from(IPS), st.none() | st.sampled_from(HOSTS), st.none() | st.sampled_from(INFOS)
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with reachable(IN_MEMORY) as folder:
        yield folder


def tcprules(text: bytes, folder: Path) -> bytes | None:
    """Return the file that tcprules makes of a text, None if it refuses to."""
    run = subprocess.run(
        ["tcprules", folder / "cdb", folder / "tmp"], input=text, capture_output=True, check=False, timeout=10
    )
    assert run.returncode in {0, 100}
    return (folder / "cdb").read_bytes() if run.returncode == 0 else None


def as_tcprulescheck_prints(rule: Rule) -> bytes:
    first = b"default:\n" if rule.key is None else b"rule " + rule.key + b":\n"
    if rule.verdict == "deny":
        return first + b"deny connection\n"
    lines = [b"set environment variable " + name + b"=" + value + b"\n" for name, value in rule.env]
    return first + b"".join(lines) + b"allow connection\n"


def answer(table: RuleTable, ip: str, host: str | None, info: str | None) -> Rule:
    return table.match(ip, None if host is None else host.encode(), None if info is None else info.encode())


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(LINE, max_size=6))
def test_tcprules_takes_the_same_texts_and_writes_the_same_files(folder: Path, lines: list[str]) -> None:
    text = "\n".join(lines).encode()
    written = tcprules(text, folder)
    if written is None:
        with pytest.raises(ConfigError):
            compile_text(text, "rules")
    else:
        assert compile_text(text, "rules") == written


def test_a_file_of_many_rules_is_the_one_that_tcprules_writes(tmp_path: Path) -> None:
    text = b"".join(b'10.%d.0-255.:allow,A="%d"\n' % (number, number) for number in range(9)) + b":deny\n" * 3
    assert compile_text(text, "rules") == tcprules(text, tmp_path)


@settings(max_examples=100, deadline=None)
@given(text=TEXT, clients=st.lists(CLIENT, min_size=20, max_size=20, unique=True))
def test_every_client_gets_the_rule_that_tcprulescheck_finds(
    folder: Path,
    text: bytes,
    clients: list[tuple[str, str | None, str | None]],
) -> None:
    written = tcprules(text, folder)
    assert written is not None
    tables = [table_from_text(text, "rules"), table_from_cdb(written, "cdb")]
    for client, expected in zip(clients, tcprulescheck(folder / "cdb", clients), strict=True):
        for table in tables:
            assert as_tcprulescheck_prints(answer(table, *client)) == expected
