"""Round trips of run scripts: what tcpserver and tcpsvd do with them, and ucspid with what was imported."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import peers
from folders import public_folder
from free_ports import free_ports
from imported import (
    HOLD,
    REPORT,
    accepted,
    ask,
    imported,
    queued,
    running_text,
    serving,
    variables,
    write_program,
)

peers.require("tcpserver")
peers.require("tcpsvd")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="servers take other users' rights, which takes root"
)

RULES = """\
127.0.1.:deny
127.0.2.9:allow,RELAYCLIENT="",NOTE="a b"
127.0.2.:allow,RELAYCLIENT="@here"
127.0.3.5-9:deny
127.:allow
:deny
"""
TCPSERVER = """\
#!/bin/sh
# What a mail host has.
QMAILDUID=`id -u daemon`
NOFILESGID=$(id -g mail)
MAX=`cat {folder}/concurrency`
LOCAL="$(head -1 {folder}/me)"
EXTRA="one two"; export EXTRA
if [ -z "$QMAILDUID" -o -z "$MAX" ]; then
    echo 'not set' >&2
    exit 1
fi
umask 027
ulimit -n 200
exec 2>&1
exec envdir {folder}/env nice -n 3 env GREETING='hello  there' \\
    tcpserver -v -R -H -B "hello
" -l "$LOCAL" -x {folder}/rules.{kind} -c "${{MAX:-5}}" \\
        -u "$QMAILDUID" -g "$NOFILESGID" 127.0.0.1 {port} {folder}/report $EXTRA "three  four"
"""
QUEUE = "#!/bin/sh\nexec tcpserver -HRl0 -c2 -U 127.0.0.1 {port} {folder}/hold\n"
TCPSVD = """\
#!/bin/sh
exec chpst -u daemon:mail:audio -o 100 -e {folder}/env \\
    tcpsvd -l here -C2:busy -i {folder}/instructions 127.0.0.1 {port} {folder}/report 'a b'
"""
PER_HOST = "#!/bin/sh\nexec tcpsvd -l0 -C '2:busy\\n' 127.0.0.1 {port} {folder}/hold\n"
SOURCES = [
    "127.0.0.1",
    "127.0.1.1",
    "127.0.2.9",
    "127.0.2.8",
    "127.0.3.4",
    "127.0.3.5",
    "127.0.3.9",
    "127.0.3.10",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        write_program(path / "report", REPORT)
        write_program(path / "hold", HOLD)
        write_program(path / "envdir", '#!/bin/sh\nexec chpst -e "$@"\n')  # daemontools' own may be missing
        (path / "env").mkdir()
        for name, value in {"ONE": "1  \nmore", "PATH_OF": "/x", "EMPTY": "\n"}.items():
            (path / "env" / name).write_text(value)
        (path / "concurrency").write_text("7\n")
        (path / "me").write_text("mx.example.org\nmore\n")
        text = subprocess.Popen(["tcprules", path / "rules.cdb", path / "tmp"], stdin=subprocess.PIPE)
        text.communicate(RULES.encode(), timeout=10)
        (path / "rules.cdb").chmod(0o644)
        (path / "rules.db").write_bytes((path / "rules.cdb").read_bytes())
        instructions(path / "instructions")
        yield path


def instructions(folder: Path) -> None:
    folder.mkdir()
    for name, text in {
        "127.0.1": "",
        "127.0.2.9": "+RELAYCLIENT=\n# more\n+NOTE=a b",
        "127.0.2": "+X=y",
        "0": "",
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o000 if name == "127.0.1" else 0o644)


def script(folder: Path, name: str, text: str, port: int, **names: str) -> Path:
    (folder / name).mkdir()
    run = folder / name / "run"
    return write_program(run, text.format(folder=folder, port=port, **names))


def compare(folder: Path, run: Path, port: int, probe: Callable[[], object]) -> object:
    """Return what the script's server and ucspid both answer."""
    text, description = imported(run)
    assert list(description.all_notes()) == []
    with serving([run], port, env={"PATH": f"{folder}:{os.environ['PATH']}"}):
        theirs = probe()
    with running_text(folder, text):
        ours = probe()
    assert ours == theirs
    return ours


@pytest.mark.parametrize("kind", ["cdb", "db"])
def test_tcpserver(folder: Path, kind: str) -> None:
    (port,) = free_ports(1)
    run = script(folder, "smtp", TCPSERVER, port, kind=kind)

    def probe() -> dict[str, list[str]]:
        found = {source: ask(port, source) for source in SOURCES}
        names = ("PROTO", "TCPLOCALHOST", "TCPLOCALIP", "TCPLOCALPORT", "TCPREMOTEIP", "TCPREMOTEHOST")
        given = variables(port)
        return found | {"connection": [f"{name}={given.get(name)}" for name in names]}

    answers = compare(folder, run, port, probe)
    assert isinstance(answers, dict)
    assert [source for source in SOURCES if len(answers[source]) > 1] == [
        "127.0.0.1", "127.0.2.9", "127.0.2.8", "127.0.3.4", "127.0.3.10"
    ]  # fmt: skip
    assert "argv one two three  four" in answers["127.0.0.1"]
    assert {"env EXTRA=one two", "env GREETING=hello  there", "env ONE=1"} <= set(answers["127.0.0.1"])
    assert "env NOTE=a b" in answers["127.0.2.9"]


def test_tcpserver_lets_clients_wait(folder: Path) -> None:
    (port,) = free_ports(1)
    run = script(folder, "wait", QUEUE, port)
    said = compare(folder, run, port, lambda: queued(port, 2))
    assert said == ["ready\n"] * 3


def test_tcpsvd(folder: Path) -> None:
    (port,) = free_ports(1)
    run = script(folder, "pop3", TCPSVD, port)
    answers = compare(folder, run, port, lambda: {source: ask(port, source) for source in SOURCES})
    assert isinstance(answers, dict)
    assert [source for source in SOURCES if not answers[source]] == ["127.0.1.1"]
    assert "env X=y" in answers["127.0.2.8"]


def test_tcpsvd_counts_clients(folder: Path) -> None:
    (port,) = free_ports(1)
    run = script(folder, "count", PER_HOST, port)

    def probe() -> list[list[str]]:
        return [accepted(port, 3, source) for source in ("127.0.0.1", "127.0.0.2")]

    assert compare(folder, run, port, probe) == [["ready\n", "ready\n", "busy\n"]] * 2
