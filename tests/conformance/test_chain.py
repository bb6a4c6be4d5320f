"""argv0, recordio and fixcrio: usage, how programs are found and run, copying, ends."""

import os
import signal
from pathlib import Path

import pytest

from tool_programs import TIMEOUT, Tools, environment_of

CHAIN = {
    "argv0": ["argv0", "/bin/sh", "other"],
    "recordio": ["recordio", "/bin/sh"],
    "fixcrio": ["fixcrio", "/bin/sh"],
}
"""What runs the shell with the words that follow."""


@pytest.mark.parametrize(
    ("tool", "words", "usage"),
    [
        ("argv0", [], "realname program [ arg ... ]"),
        ("argv0", ["x"], "realname program [ arg ... ]"),
        ("recordio", [], "program [ arg ... ]"),
        ("fixcrio", [], "program [ arg ... ]"),
    ],
)
def test_usage(tools: Tools, tool: str, words: list[str], usage: str) -> None:
    ended = tools.run(tool, *words)
    assert (ended.code, ended.out, ended.lines) == (100, b"", [f"{tool}: usage: {tool} {usage}"])


def test_argv0_gives_another_name(tools: Tools) -> None:
    ended = tools.run("argv0", "sh", "-other", "-c", 'echo "$0" "$@"', "-zero", "--", "-x")
    assert (ended.code, ended.out) == (0, b"-zero -- -x\n")
    assert tools.run("argv0", "cat", "-other", "/proc/self/cmdline").out == b"-other\0/proc/self/cmdline\0"


@pytest.mark.parametrize("tool", CHAIN)
def test_the_program_has_its_exit_status(tools: Tools, tool: str) -> None:
    for code in (0, 1, 99, 111, 255):
        assert tools.run(*CHAIN[tool], "-c", f"exit {code}").code == code
    assert tools.run(*CHAIN[tool], "-c", "kill -9 $$").code == -9


@pytest.mark.parametrize("tool", CHAIN)
def test_the_program_has_the_process(tools: Tools, tool: str) -> None:
    ended = tools.run(*CHAIN[tool], "-c", "echo $$")
    assert ended.out.strip() == b"%d" % ended.pid


@pytest.mark.parametrize("tool", CHAIN)
def test_the_program_has_the_environment(tools: Tools, tool: str) -> None:
    words = [word.replace("/bin/sh", "/usr/bin/env") for word in CHAIN[tool]]
    env = {"A": "", "LANG": "C", "LC_ALL": "", "B": "x=y\udcff", "PYTHONHOME": "/nowhere", "_": "x"}
    ended = tools.run(*words, "-0", env=env)
    expected = {**tools.env, **env}
    assert environment_of(ended) == {
        name: value.replace("\udcff", "\xff") for name, value in expected.items()
    }


@pytest.mark.parametrize("tool", CHAIN)
def test_the_program_has_default_signals(tools: Tools, tool: str) -> None:
    ended = tools.run(*CHAIN[tool], "-c", "grep -E '^Sig(Ign|Blk)' /proc/self/status")
    assert {line.split()[1] for line in ended.out.decode().splitlines()} == {"0" * 16}


@pytest.mark.parametrize("tool", CHAIN)
def test_the_program_has_no_descriptors_but_those_given(tools: Tools, tool: str) -> None:
    ended = tools.run(*CHAIN[tool], "-c", "ls /proc/$$/fd")
    assert ended.out.split() == [b"0", b"1", b"2"]
    reading, writing = os.pipe()
    ended = tools.run(*CHAIN[tool], "-c", "ls /proc/$$/fd", pass_fds=(reading, writing))
    assert {int(number) for number in ended.out.split()} == {0, 1, 2, reading, writing}
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("tool", CHAIN)
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("nowhere", "file does not exist"),
        ("/nowhere", "file does not exist"),
        ("/etc", "access denied"),
        ("/etc/passwd", "access denied"),
        ("/etc/passwd/x", "not a directory"),
        ("./", "access denied"),
    ],
)
def test_a_program_that_cannot_be_run(tools: Tools, tool: str, program: str, reason: str) -> None:
    words = [word.replace("/bin/sh", program) for word in CHAIN[tool]]
    ended = tools.run(*words)
    lines = [line for line in ended.lines if "[EOF]" not in line]
    assert (ended.code, lines) == (111, [f"{tool}: fatal: unable to run {program}: {reason}"])


@pytest.mark.parametrize("tool", CHAIN)
def test_a_program_of_the_wrong_format(tools: Tools, tool: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("echo no first line\n")
    program.chmod(0o755)
    words = [word.replace("/bin/sh", str(program)) for word in CHAIN[tool]]
    ended = tools.run(*words)
    assert ended.code == 111
    assert f"{tool}: fatal: unable to run {program}: exec format error" in ended.lines


@pytest.mark.parametrize("tool", CHAIN)
def test_how_a_program_is_looked_for(tools: Tools, tool: str, tmp_path: Path) -> None:
    """In PATH, passing over what cannot be executed; an empty part is the working directory."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "program").write_text("not executable")
    (tmp_path / "second").mkdir()
    program = tmp_path / "second" / "program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    words = [word.replace("/bin/sh", "program") for word in CHAIN[tool]]

    def outcome(path: str) -> bytes:
        ended = tools.run(*words, env={"PATH": path}, cwd=tmp_path / "second")
        lines = [line for line in ended.lines if "found" not in line and "[EOF]" not in line]
        return ended.out.replace(b"\r", b"") or lines[0].encode()

    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert outcome(f"{first}:{second}") == b"found\n"
    assert outcome(f"/nowhere:{second}") == b"found\n"
    assert outcome(f"{second}/program:{second}").endswith(b"not a directory")
    assert outcome(f"{first}:/nowhere").endswith(b"unable to run program: access denied")
    assert outcome("") == b"found\n"
    assert outcome(":/nowhere") == b"found\n"
    assert outcome("/nowhere:") == b"found\n"
    assert outcome("/nowhere").endswith(b"unable to run program: file does not exist")


@pytest.mark.parametrize("tool", CHAIN)
def test_without_a_path(tools: Tools, tool: str) -> None:
    words = [word.replace("/bin/sh", "sh") for word in CHAIN[tool]]
    with tools.start(*words, "-c", "exit 3", env={}) as process:
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 3


# recordio and fixcrio: copying


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (b"", []),
        (b"a\n", ["a "]),
        (b"a", ["a+"]),
        (b"a\nb\n", ["a ", "b "]),
        (b"a\n\nb", ["a ", " ", "b+"]),
        (b"\n", [" "]),
        (b"a\r\n", ["a\r "]),
        (b"\0\x7f\xff\n", ["\0\x7f\xff "]),
        (b"x" * 256, ["x" * 256 + "+"]),
        (b"x" * 255 + b"\n", ["x" * 255 + " "]),
        (b"x" * 300 + b"\ny", ["x" * 256 + "+", "x" * 44 + " ", "y+"]),
    ],
    ids=range(11),
)
def test_what_recordio_prints(tools: Tools, given: bytes, shown: list[str]) -> None:
    ended = tools.run("recordio", "cat", given=given)
    assert (ended.code, ended.out) == (0, given)
    lines = ended.err.decode("latin-1").split("\n")
    for direction in "<>":
        start = f"{ended.pid} {direction} "
        assert [line for line in lines if line.startswith(start)] == [
            start + text for text in [*shown, "[EOF]"]
        ]
    assert lines[-1] == ""


def test_recordio_prints_a_packet_as_it_comes(tools: Tools) -> None:
    with tools.start("recordio", "cat") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for packet, mark in ((b"a", b"+"), (b"b\n", b" "), (b"c", b"+")):
            process.stdin.write(packet)
            process.stdin.flush()
            assert process.stdout.read(len(packet)) == packet
            for direction in (b"<", b">"):
                shown = b"%d %b %b%b\n" % (process.pid, direction, packet.strip(), mark)
                assert process.stderr.readline() == shown
        process.stdin.close()
        assert process.stderr.read() == b"%d < [EOF]\n%d > [EOF]\n" % (process.pid, process.pid)
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(
    ("given", "fixed"),
    [
        (b"", b""),
        (b"a\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"\n\n", b"\r\n\r\n"),
        (b"\r\r\n", b"\r\r\n"),
        (b"\r", b"\r"),
        (b"\n\r", b"\r\n\r"),
        (b"x" * 255 + b"\r\n", b"x" * 255 + b"\r\n"),
        (b"x" * 1023 + b"\r\n", b"x" * 1023 + b"\r\n"),
        (b"\n" * 5000, b"\r\n" * 5000),
        (b"\0\xff", b"\0\xff"),
    ],
    ids=range(11),
)
def test_fixcrio_in_both_directions(tools: Tools, given: bytes, fixed: bytes, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(given)
    ended = tools.run("fixcrio", "sh", "-c", "cat >&2", given=given)
    assert (ended.code, ended.err) == (0, fixed), "in"
    ended = tools.run("fixcrio", "sh", "-c", "exec cat $0", str(tmp_path / "given"))
    assert (ended.code, ended.out) == (0, fixed), "out"


@pytest.mark.parametrize("tool", ["recordio", "fixcrio"])
def test_the_end_of_input_reaches_the_program_and_output_goes_on(tools: Tools, tool: str) -> None:
    ended = tools.run(tool, "sh", "-c", "cat >/dev/null; echo after", given=b"before")
    assert (ended.code, ended.out.strip()) == (0, b"after")


@pytest.mark.parametrize("tool", ["recordio", "fixcrio"])
def test_a_program_that_closes_its_output_ends_the_copying(tools: Tools, tool: str) -> None:
    with tools.start(tool, "sh", "-c", "exec >&-; exec cat >/dev/null") as process:
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert process.wait(TIMEOUT) == 0, "with the copier its input has ended, too"


@pytest.mark.parametrize("tool", ["recordio", "fixcrio"])
def test_a_reader_that_has_gone_ends_the_copying(tools: Tools, tool: str) -> None:
    with tools.start(tool, "sh", "-c", "trap '' PIPE; while echo x; do :; done; exit 7") as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"x\n" or tool == "fixcrio"
        process.stdout.close()
        process.communicate(timeout=TIMEOUT)
        assert process.returncode == 7


@pytest.mark.parametrize("tool", ["recordio", "fixcrio"])
def test_much_in_both_directions_at_once(tools: Tools, tool: str) -> None:
    line = b"0123456789abcde\r\n"
    ended = tools.run(tool, "cat", given=line * 20000)
    assert ended.out == line * 20000


@pytest.mark.parametrize("tool", ["recordio", "fixcrio"])
def test_input_that_is_closed(tools: Tools, tool: str) -> None:
    ended = tools.shell(f"exec ${tool} cat <&-")
    assert (ended.code, ended.out) == (0, b"")


def test_recordio_goes_on_without_descriptor_2(tools: Tools) -> None:
    assert tools.shell("exec $recordio cat 2>&-", given=b"a\n").out == b"a\n"
    assert tools.shell("exec $recordio cat 2>/dev/full", given=b"a\n").out == b"a\n"


@pytest.mark.parametrize("tool", ["recordio", "fixcrio"])
def test_a_signal_reaches_the_program(tools: Tools, tool: str) -> None:
    with tools.start(tool, "sh", "-c", "echo ready; exec cat") as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == -signal.SIGTERM


def test_a_chain_of_all(tools: Tools) -> None:
    script = "exec $recordio $fixcrio $argv0 /bin/sh -sh -c 'read a; echo \"$0 $a\"'"
    ended = tools.shell(script, given=b"x\n")
    assert ended.code == 0
    assert ended.out == b"-sh x\r\n", "what comes in has a CR, and what goes out has it already"
