"""tcprules and tcprulescheck: what is read, what is written, what is said of it, what fails."""

import subprocess
from pathlib import Path

import pytest

from tool_programs import Ended, Tools

RULES = b"""\
# a comment
1.2.3.4:allow,RELAYCLIENT="",X="a b"
1.2.3.:deny
1.2.3.5-7:allow,Y=/x/
10.:deny,REASON="no"
me@1.2.3.9:allow,USER="me"
me@=mail.example.com:allow
=mail.example.com:allow,HOST="full"
=.example.com:allow,HOST="suffix"
=:allow,HOST="any"
:allow,D="default"
"""


@pytest.fixture
def cdb(tools: Tools, tmp_path: Path) -> Path:
    """Return the compiled rules, made by the tools under test."""
    path = tmp_path / "rules.cdb"
    ended = compile_rules(tools, RULES, path)
    assert (ended.code, ended.err) == (0, b"")
    return path


def compile_rules(tools: Tools, text: bytes, path: Path) -> Ended:
    return tools.run("tcprules", str(path), f"{path}.tmp", given=text)


def check(tools: Tools, path: Path, **env: str) -> list[str]:
    ended = tools.run("tcprulescheck", str(path), env=env)
    assert (ended.code, ended.err) == (0, b"")
    return ended.out.decode("latin-1").splitlines()


# compiling


@pytest.mark.parametrize("words", [[], ["x.cdb"]], ids=str)
def test_usage(tools: Tools, words: list[str]) -> None:
    ended = tools.run("tcprules", *words)
    assert (ended.code, ended.lines) == (100, ["tcprules: usage: tcprules rules.cdb rules.tmp"])


SOUND = [
    b"",
    b"\n\n",
    RULES,
    RULES.rstrip(),
    b"1.2.3.4:allow \t \n",
    b"no colon\n",
    b"  1.2.3.4:deny\n",
    b'a:allow,A="1",B=,2,,C=xx\n',
    b"a:allow,A=\xff\xe9\xff\n",
    b"1-3:deny\n1.2-4.5:deny\n1.-2:deny\n250-300.:deny\n9-3:deny\n",
    b"=a-b.c:deny\nme-you@1.2.3.4:deny\n",
    b"1.2.3.4:deny\n1.2.3.4:allow\n",
    b"\n".join(b"10.%d.%d.%d:deny" % (i, i % 7, i % 13) for i in range(250)),
    b":deny",
    b"18446744073709551617-18446744073709551618:deny\n",
]


@pytest.mark.parametrize("text", SOUND, ids=range(len(SOUND)))
def test_files_are_the_same(tools: Tools, text: bytes, tmp_path: Path) -> None:
    ended = compile_rules(tools, text, tmp_path / "rules.cdb")
    assert (ended.code, ended.out, ended.err) == (0, b"", b"")
    reference = tmp_path / "reference.cdb"
    subprocess.run(["/usr/bin/tcprules", reference, f"{reference}.tmp"], input=text, check=True, timeout=20)
    assert (tmp_path / "rules.cdb").read_bytes() == reference.read_bytes()
    assert not (tmp_path / "rules.cdb.tmp").exists()


WRONG = [
    (b"1.2.3.4:alow", b"1.2.3.4:alow"),
    (b"1.2.3.4:", b"1.2.3.4:"),
    (b"1.2.3.4:allowed", b"1.2.3.4:allowed"),
    (b"x:allow,A \t ", b"x:allow,A"),
    (b"x:allow,A=", b"x:allow,A="),
    (b'x:allow,A="b', b'x:allow,A="b'),
    (b'x:allow,A="b"c', b'x:allow,A="b"c'),
    (b"1-x:deny", b"1-x:deny"),
    (b"x-1:deny", b"x-1:deny"),
    (b"1-2-3:deny", b"1-2-3:deny"),
    (b"a\0b:what", b"a"),
    (b"\xff:what", b"\xff:what"),
]


@pytest.mark.parametrize(("line", "shown"), WRONG, ids=range(len(WRONG)))
def test_a_line_that_is_wrong(tools: Tools, line: bytes, shown: bytes, cdb: Path) -> None:
    before = cdb.read_bytes()
    ended = compile_rules(tools, b"1.2.3.4:deny\n" + line + b"\nalso:wrong\n", cdb)
    assert (ended.code, ended.err) == (100, b"tcprules: fatal: unable to parse this line: " + shown + b"\n")
    assert cdb.read_bytes() == before


def test_files_that_cannot_be_written(tools: Tools, tmp_path: Path) -> None:
    cdb, folder = tmp_path / "rules.cdb", tmp_path / "folder"
    folder.mkdir()

    def failure(final: Path, temporary: Path | str) -> str:
        ended = tools.run("tcprules", str(final), str(temporary), given=RULES)
        assert ended.code == 111
        (line,) = ended.lines
        return line.removeprefix("tcprules: fatal: ")

    nowhere = tmp_path / "nowhere" / "x"
    assert failure(cdb, nowhere) == f"unable to create {nowhere}: file does not exist"
    assert failure(cdb, folder) == f"unable to create {folder}: is a directory"
    assert failure(folder, f"{cdb}.tmp") == f"unable to move {cdb}.tmp to {folder}: is a directory"
    assert failure(nowhere, f"{cdb}.tmp") == f"unable to move {cdb}.tmp to {nowhere}: file does not exist"
    assert failure(cdb, "/dev/full").startswith("unable to write to /dev/full: ")


def test_input_that_cannot_be_read(tools: Tools, tmp_path: Path) -> None:
    ended = tools.shell('exec $tcprules "$1/x.cdb" "$1/x.tmp" <&-', str(tmp_path))
    assert (ended.code, ended.lines) == (
        111,
        ["tcprules: fatal: unable to read input: file descriptor not open"],
    )


def test_the_mode_of_a_file(tools: Tools, tmp_path: Path) -> None:
    ended = tools.shell('umask 027; exec $tcprules "$1/x.cdb" "$1/x.tmp"', str(tmp_path))
    assert ended.code == 0
    assert (tmp_path / "x.cdb").stat().st_mode & 0o777 == 0o640


# checking


def test_usage_of_the_check(tools: Tools) -> None:
    ended = tools.run("tcprulescheck")
    assert (ended.code, ended.lines) == (100, ["tcprulescheck: usage: tcprulescheck rules.cdb"])


@pytest.mark.parametrize(
    ("env", "printed"),
    [
        ("TCPREMOTEIP=1.2.3.4", ["rule 1.2.3.4:", "+RELAYCLIENT=", "+X=a b", "allow"]),
        ("TCPREMOTEIP=1.2.3.8", ["rule 1.2.3.:", "deny"]),
        ("TCPREMOTEIP=1.2.3.6", ["rule 1.2.3.6:", "+Y=x", "allow"]),
        ("TCPREMOTEIP=10.9.8.7", ["rule 10.:", "deny"]),
        ("TCPREMOTEIP=1.2.3.9,TCPREMOTEINFO=me", ["rule me@1.2.3.9:", "+USER=me", "allow"]),
        ("TCPREMOTEIP=1.2.3.9,TCPREMOTEINFO=you", ["rule 1.2.3.:", "deny"]),
        ("TCPREMOTEIP=9.9.9.9", ["rule :", "+D=default", "allow"]),
        ("", ["rule :", "+D=default", "allow"]),
        ("TCPREMOTEHOST=mail.example.com", ["rule =mail.example.com:", "+HOST=full", "allow"]),
        ("TCPREMOTEHOST=mail.example.com,TCPREMOTEINFO=me", ["rule me@=mail.example.com:", "allow"]),
        ("TCPREMOTEHOST=x.example.com", ["rule =.example.com:", "+HOST=suffix", "allow"]),
        ("TCPREMOTEHOST=example.com", ["rule =:", "+HOST=any", "allow"]),
        ("TCPREMOTEHOST=", ["rule =:", "+HOST=any", "allow"]),
        ("TCPREMOTEIP=10.9.8.7,TCPREMOTEHOST=x.example.com", ["rule 10.:", "deny"]),
        ("TCPREMOTEIP=10.", ["rule 10.:", "deny"]),
        ("TCPREMOTEIP=10.x", ["rule 10.:", "deny"]),
        ("TCPREMOTEIP=1.2.3.04", ["rule 1.2.3.:", "deny"]),
        ("TCPREMOTEIP=", ["rule :", "+D=default", "allow"]),
        ("TCPREMOTEIP=,TCPREMOTEHOST=x.y", ["rule :", "+D=default", "allow"]),
    ],
)
def test_what_rules_say(tools: Tools, cdb: Path, env: str, printed: list[str]) -> None:
    variables = dict(item.split("=") for item in env.split(",")) if env else {}
    expected = [
        line.replace("+", "set environment variable ", 1)
        if line.startswith("+")
        else f"{line} connection"
        if line in {"allow", "deny"}
        else line
        for line in printed
    ]
    assert check(tools, cdb, **variables) == expected


def test_no_rule(tools: Tools, tmp_path: Path) -> None:
    cdb = tmp_path / "rules.cdb"
    assert compile_rules(tools, b"1.2.3.4:deny\n", cdb).code == 0
    assert check(tools, cdb, TCPREMOTEIP="1.2.3.5") == ["default:", "allow connection"]


def test_odd_bytes(tools: Tools, tmp_path: Path) -> None:
    cdb = tmp_path / "rules.cdb"
    assert compile_rules(tools, b'=\xff.x:allow,A="\xfe"\n', cdb).code == 0
    ended = tools.run("tcprulescheck", str(cdb), env={"TCPREMOTEHOST": "\udcff.x"})
    assert ended.out == b"rule =\xff.x:\nset environment variable A=\xfe\nallow connection\n"


def test_files_that_cannot_be_read(tools: Tools, tmp_path: Path) -> None:
    def failure(path: Path | str) -> str:
        ended = tools.run("tcprulescheck", str(path))
        assert (ended.code, ended.out) == (111, b"")
        (line,) = ended.lines
        return line.removeprefix(f"tcprulescheck: fatal: unable to read {path}: ")

    assert failure(tmp_path / "nowhere") == "file does not exist"
    if tools.ours:  # the original dies of SIGSEGV
        assert failure(tmp_path) == "is a directory"
    (tmp_path / "empty").touch()
    assert failure(tmp_path / "empty") == "invalid argument"
    (tmp_path / "short").write_bytes(b"x" * 100)
    assert failure(tmp_path / "short") == "protocol error"
    assert failure("/dev/null") == "invalid argument"


def test_output_that_cannot_be_written(tools: Tools, cdb: Path) -> None:
    assert tools.shell('exec $tcprulescheck "$1" >/dev/full', str(cdb)).code == 0
    assert tools.shell('exec $tcprulescheck "$1" >&-', str(cdb)).code == 0


def test_files_of_one_are_read_by_the_other(ours: Tools, tools: Tools, cdb: Path) -> None:
    env = {"TCPREMOTEIP": "1.2.3.4"}
    assert check(ours, cdb, **env) == check(tools, cdb, **env)


# what only ours has


@pytest.mark.parametrize(
    ("ip", "rule"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("2001:db8::7", "2001:0DB8:0000:0000:0000:0000:0000:0007"),
        ("2001:db8::8", "2001:db8::/32"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db9::1", ""),
    ],
)
def test_networks_and_ipv6(ours: Tools, tmp_path: Path, ip: str, rule: str) -> None:
    cdb = tmp_path / "rules.cdb"
    text = b"192.0.2.0/24:deny\n2001:db8::7:allow\n2001:db8::/32:deny\n:allow\n"
    assert compile_rules(ours, text, cdb).code == 0
    verdict = "allow" if rule in {"", "2001:0DB8:0000:0000:0000:0000:0000:0007"} else "deny"
    assert check(ours, cdb, TCPREMOTEIP=ip) == [f"rule {rule}:", f"{verdict} connection"]
