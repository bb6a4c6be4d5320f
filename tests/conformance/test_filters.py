"""addcr and delcr: data, ends and failures."""

import signal
import subprocess

import pytest

from tool_programs import TIMEOUT, Tools

CASES = [
    b"",
    b"\n",
    b"\r",
    b"\r\n",
    b"a",
    b"a\nb",
    b"a\r\nb\r\n",
    b"\r\r\n",
    b"\n\r",
    b"\r\r\r\n\n\r\n\r",
    b"\0\xff\n\0",
    b"x" * 8191 + b"\r\n",
    b"x" * 8192 + b"\r\n",
    b"\n" * 20000,
    b"\r\n" * 20000 + b"\r",
]


@pytest.mark.parametrize("data", CASES, ids=range(len(CASES)))
def test_addcr(tools: Tools, data: bytes) -> None:
    ended = tools.run("addcr", given=data)
    assert (ended.code, ended.out, ended.err) == (0, data.replace(b"\n", b"\r\n"), b"")


@pytest.mark.parametrize("data", CASES, ids=range(len(CASES)))
def test_delcr(tools: Tools, data: bytes) -> None:
    ended = tools.run("delcr", given=data)
    assert (ended.code, ended.out, ended.err) == (0, data.replace(b"\r\n", b"\n"), b"")


@pytest.mark.parametrize("filter_", ["addcr", "delcr"])
def test_arguments_do_not_matter(tools: Tools, filter_: str) -> None:
    assert tools.run(filter_, "-x", "--", "y", given=b"a").out == b"a"


@pytest.mark.parametrize("filter_", ["addcr", "delcr"])
@pytest.mark.parametrize(
    ("redirection", "code"),
    [("<&-", 111), (">/dev/full", 111), (">&-", 111), ("</dev/null >&-", 0), ("2>&-", 0)],
)
def test_descriptors_that_fail(tools: Tools, filter_: str, redirection: str, code: int) -> None:
    ended = tools.shell(f"cd /; exec ${filter_} {redirection}", given=b"a\n")
    assert (ended.code, ended.err) == (code, b"")


@pytest.mark.parametrize(("filter_", "code"), [("addcr", 111), ("delcr", 0)])
def test_what_is_held_back_may_be_lost(tools: Tools, filter_: str, code: int) -> None:
    """delcr holds a CR back at the end of the stream, and does not look whether it was written."""
    assert tools.shell(f"exec ${filter_} >/dev/full", given=b"\r").code == code


@pytest.mark.parametrize("filter_", ["addcr", "delcr"])
def test_a_reader_that_has_gone(tools: Tools, filter_: str) -> None:
    with tools.start(filter_) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.write(b"a\n")
        process.stdin.close()
        assert process.wait(TIMEOUT) == -signal.SIGPIPE


@pytest.mark.parametrize("filter_", ["addcr", "delcr"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it(tools: Tools, filter_: str, number: signal.Signals) -> None:
    with tools.start(filter_) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == b"a", "it runs"
        process.send_signal(number)
        assert process.wait(TIMEOUT) == -number


@pytest.mark.parametrize("filter_", ["addcr", "delcr"])
def test_what_has_come_is_passed_on_at_once(tools: Tools, filter_: str) -> None:
    with tools.start(filter_) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            process.stdin.write(b"a\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == b"a"
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0
        assert process.stdout.read() == b""


@pytest.mark.parametrize("filter_", ["addcr", "delcr"])
def test_an_ignored_sigint_stays_ignored(tools: Tools, filter_: str) -> None:
    """As in a background job of a shell without job control."""
    script = f"trap '' INT; exec {tools.folder}/{filter_}"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write(b"a\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == b"a"
            process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0
