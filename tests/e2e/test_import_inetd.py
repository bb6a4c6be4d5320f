"""Round trips of inetd.conf: what Debian's openbsd-inetd does with it, ucspid does with what was imported."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import peers
from folders import public_folder
from free_ports import free_ports
from imported import HOLD, REPORT, accepted, ask, imported, running_text, serving, write_program

INETD = peers.require("inetd")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="inetd takes other users' rights, which takes root")

PROGRAMS = [
    ("nobody", "report one 'two"),
    ("nobody.daemon", "other a b c"),
    ("root", "report"),
    ("daemon:mail", "report"),
]
WHERE = [
    ("tcp", "127.0.0.1"),
    ("tcp", "::1"),
    ("tcp46", "127.0.0.1"),
    ("tcp4", "127.0.0.1"),
    ("tcp6", "::1"),
]
INTERNAL = {"daytime": (13, b""), "discard": (9, b"abc\n"), "echo": (7, b"abc\n")}
"""By name: the port, and what is sent to those that read."""
INSIDE = f"127.7.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""An address of this process alone: the ports of the internal services are those of all hosts."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        write_program(path / "report", REPORT)
        write_program(path / "hold", HOLD)
        yield path


def inetd(config: Path) -> list[str | Path]:
    return [INETD, "-i", config]


def test_programs_get_the_same_wherever_they_listen(folder: Path) -> None:
    ports, config = free_ports(len(PROGRAMS) + len(WHERE)), folder / "inetd.conf"
    programs = list(zip(ports, PROGRAMS, strict=False))
    listeners = list(zip(ports[len(PROGRAMS) :], WHERE, strict=True))
    config.write_text(
        "".join(
            f"127.0.0.1:{port} stream tcp nowait {user} {folder}/report {arguments}\n"
            for port, (user, arguments) in programs
        )
        + "".join(
            f"{port} stream {protocol} nowait nobody {folder}/report report\n"
            for port, (protocol, _) in listeners
        )
        + "".join(f"{INSIDE}:{name} stream tcp4 nowait root internal\n" for name in INTERNAL)
    )

    def answers() -> list[list[str]]:
        found = [ask(port) for port, _ in programs]
        found += [ask(port, address, address) for port, (_, address) in listeners]
        lengths = [
            [len(line) for line in ask(port, host=INSIDE, data=data)] for port, data in INTERNAL.values()
        ]
        return [*found, *([str(length)] for length in lengths)]

    text, description = imported(config)
    assert list(description.all_notes()) == []
    with serving(inetd(config), ports[-1]):
        theirs = answers()
    with running_text(folder, text):
        ours = answers()
    assert theirs == ours
    assert [answer[0].removeprefix("argv ") for answer in ours[: len(PROGRAMS)]] == [
        arguments.partition(" ")[2] for _, arguments in PROGRAMS
    ]
    assert ours[-1] == ["[3]"]


def test_as_many_at_once_as_come_but_for_a_rate(folder: Path) -> None:
    """Over max, inetd starts one less than the number says; ucspid starts as many as it says."""
    (many, few), config = free_ports(2), folder / "inetd.conf"
    config.write_text(
        f"{many} stream tcp nowait nobody {folder}/hold hold\n"
        f"{few} stream tcp nowait.5 nobody {folder}/hold hold\n"
    )
    text, _ = imported(config)
    with serving(inetd(config), few):
        theirs = accepted(many, 60), accepted(few, 8)
    with running_text(folder, text):
        ours = accepted(many, 60), accepted(few, 8)
    assert theirs == (["ready\n"] * 60, ["ready\n"] * 4 + [""] * 4)
    assert ours == (["ready\n"] * 60, ["ready\n"] * 5 + [""] * 3)
