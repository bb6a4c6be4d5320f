import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from hypothesis import given
from hypothesis import strategies as st

from ucspid.sessions.stderr_log import MAX_BYTES, MAX_LINE, MAX_LINES, Lines, StderrLog

TIMEOUT = 10.0


def test_lines_come_without_their_ends_and_empty_ones_not_at_all() -> None:
    assert Lines().feed(b"one\ntwo\r\n\n \nthree\n") == [b"one", b"two", b"three"]


def test_a_line_in_parts_comes_when_it_ends() -> None:
    lines = Lines()
    assert lines.feed(b"on") == []
    assert lines.feed(b"e") == []
    assert lines.feed(b"\ntw") == [b"one"]
    assert lines.flush() == [b"tw"]
    assert lines.flush() == []


def test_a_line_that_is_too_long_comes_in_pieces() -> None:
    lines = Lines()
    assert lines.feed(b"x" * (2 * MAX_LINE + 1)) == [b"x" * MAX_LINE] * 2
    assert lines.feed(b"\n") == [b"x"]


def test_what_is_skipped_is_counted_and_the_rest_of_its_last_line_is_kept() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == [b"one"]
    assert lines.skip(b"o\nthree\nfo") == 2
    assert lines.skip(b"u") == 0
    assert lines.feed(b"r\n") == [b"four"]
    assert lines.skip(b"x" * 10_000) == 0
    assert lines.flush() == [b"x" * MAX_LINE]


TEXT = st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b" ", b"\xff", b"x" * (MAX_LINE - 1)]), max_size=20)


@given(TEXT, st.data())
def test_it_does_not_matter_how_the_bytes_come(parts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(parts)
    whole, split = Lines(), Lines()
    expected = whole.feed(text) + whole.flush()
    found = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += split.feed(text[:size])
        text = text[size:]
    assert found + split.flush() == expected
    assert all(0 < len(line) <= MAX_LINE for line in expected)
    assert b"".join(expected).translate(None, b" \r") == b"".join(parts).translate(None, b" \r\n")


class Reading:
    """A StderrLog on a pipe, and the events that it logs."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        logger = structlog.wrap_logger(
            None, processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger("info")
        )
        self.log = StderrLog(logger, "smtp", reading)

    def _keep(self, _logger: Any, _level: str, fields: Any) -> Any:
        self.events.append(dict(fields))
        self._news.set()
        raise structlog.DropEvent

    def write(self, data: bytes) -> None:
        assert os.write(self.writing, data) == len(data)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def lines(self) -> list[str]:
        return [item["line"] for item in self.events if item["event"] == "program_stderr"]


@asynccontextmanager
async def reading() -> AsyncIterator[Reading]:
    it = Reading()
    try:
        yield it
    finally:
        asyncio.get_running_loop().remove_reader(it.log.descriptor)
        os.close(it.log.descriptor)
        os.close(it.writing)


async def test_what_programs_write_is_logged_line_by_line_with_the_service() -> None:
    async with reading() as it:
        it.write(b"first\nsecond \xff\n")
        await it.until(lambda: len(it.events) == 2)
        assert it.events == [
            {"event": "program_stderr", "service": "smtp", "line": "first"},
            {"event": "program_stderr", "service": "smtp", "line": "second \\xff"},
        ]


async def test_a_flood_is_cut_off_and_counted() -> None:
    async with reading() as it:
        it.write(b"x\n" * 10_000)
        await it.until(lambda: it.events[-1:] and it.events[-1]["event"] == "program_stderr_dropped")
        assert len(it.lines()) == MAX_LINES
        assert it.events[-1]["lines"] == 10_000 - MAX_LINES
        it.write(b"after\n")
        await it.until(lambda: it.lines()[-1] == "after")


async def test_programs_that_write_without_end_wait_and_go_on_in_the_next_second() -> None:
    async with reading() as it:
        os.set_blocking(it.writing, False)
        written = 0

        def write() -> None:
            nonlocal written
            with contextlib.suppress(BlockingIOError):
                written += os.write(it.writing, b"y\n" * 8192)

        def dropped() -> int:
            return sum(item["lines"] for item in it.events if item["event"] == "program_stderr_dropped")

        asyncio.get_running_loop().add_writer(it.writing, write)
        pipe = fcntl.fcntl(it.writing, fcntl.F_GETPIPE_SZ)
        for second in (1, 2):
            await it.until(lambda: len(it.lines()) == MAX_LINES * second and dropped() > 0)  # noqa: B023
            assert written <= second * MAX_BYTES + pipe + 16384
        await it.until(lambda: dropped() > MAX_BYTES // 2)
        asyncio.get_running_loop().remove_writer(it.writing)
        assert written > MAX_BYTES


async def test_a_line_that_nobody_ends_is_logged_after_a_while_and_not_glued_to_the_next() -> None:
    async with reading() as it:
        it.write(b"no end")
        await it.until(lambda: it.lines() == ["no end"])
        it.write(b"another\n")
        await it.until(lambda: it.lines() == ["no end", "another"])


async def test_a_pipe_that_nobody_can_write_to_any_more_is_let_alone() -> None:
    async with reading() as it:
        it.write(b"last")
        os.dup2(0, it.writing)
        await it.until(lambda: it.lines() == ["last"])
        assert not asyncio.get_running_loop().remove_reader(it.log.descriptor)
