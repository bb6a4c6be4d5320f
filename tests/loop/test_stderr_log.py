import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ucspid.plan import STDERR_RATE, Rate
from ucspid.sessions import stderr_log
from ucspid.sessions.stderr_log import MAX_BYTES, MAX_LINE, Lines, StderrLog

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
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=30)))
    found = []
    for start, end in pairwise([0, *cuts, len(text)]):
        found += split.feed(text[start:end])
    assert found + split.flush() == expected
    assert all(0 < len(line) <= MAX_LINE for line in expected)
    assert b"".join(expected).translate(None, b" \r") == b"".join(parts).translate(None, b" \r\n")


MAX_LINES = STDERR_RATE.burst


@pytest.fixture
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a second of a pipe's, and all that is waited for, be short."""
    monkeypatch.setattr(stderr_log, "PERIOD", 0.05)
    monkeypatch.setattr(stderr_log, "QUIET", 0.02)
    monkeypatch.setattr(stderr_log, "MAX_WAIT", 0.1)


class Sessions:
    """The sessions of a service, as far as their pipe is concerned."""

    def __init__(self) -> None:
        self.by_number: dict[int, object] = {}
        self.ended = 0
        self.last_ended = 0

    def begin(self, number: int) -> None:
        self.by_number[number] = number

    def end(self, number: int) -> None:
        del self.by_number[number]
        self.ended += 1
        self.last_ended = number


class Reading:
    """A StderrLog on a pipe, and the events that it logs."""

    def __init__(self, level: str = "info") -> None:
        reading, self.writing = os.pipe()
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        logger = structlog.wrap_logger(
            None, processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger(level)
        )
        self.room = True
        self.ended = False
        self.sessions = Sessions()
        self.log = StderrLog(logger, "smtp", reading, lambda: self.room, self._end)

    def _end(self, log: StderrLog) -> None:
        assert log is self.log
        self.ended = True
        self._news.set()

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

    async def written(self, data: bytes) -> dict[str, Any]:
        """Write what makes one event, and return it."""
        self.write(data)
        count = len(self.events)
        await self.until(lambda: len(self.events) > count)
        return self.events[-1]

    async def write_all(self, data: bytes) -> None:
        """Write as fast as it is read."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        rest = memoryview(data)
        os.set_blocking(self.writing, False)

        def write() -> None:
            nonlocal rest
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self.writing, rest) :]
            if not rest:
                loop.remove_writer(self.writing)
                done.set()

        loop.add_writer(self.writing, write)
        async with asyncio.timeout(TIMEOUT):
            await done.wait()

    def lines(self) -> list[str]:
        return [item["line"] for item in self.events if item["event"] == "program_stderr"]

    def dropped(self) -> int:
        return sum(item["lines"] for item in self.events if item["event"] == "program_stderr_dropped")


@asynccontextmanager
async def reading(level: str = "info") -> AsyncIterator[Reading]:
    it = Reading(level)
    try:
        yield it
    finally:
        asyncio.get_running_loop().remove_writer(it.writing)
        if not it.ended:
            asyncio.get_running_loop().remove_reader(it.log.descriptor)
            os.close(it.log.descriptor)
            os.close(it.writing)


@pytest.mark.usefixtures("_brief")
@pytest.mark.parametrize("room", [True, False])
async def test_when_nobody_can_write_any_more_the_last_words_are_logged_and_the_pipe_is_closed(
    room: bool,
) -> None:
    async with reading() as it:
        it.write(b"last\n" * (MAX_LINES + 5) + b"words")
        it.room = room
        os.close(it.writing)
        await it.until(lambda: it.ended)
        assert len(it.lines()) + it.dropped() == MAX_LINES + 6
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(it.log.descriptor)


async def test_what_programs_write_is_logged_line_by_line_with_the_service() -> None:
    async with reading() as it:
        it.write(b"first\nsecond \xff\n")
        await it.until(lambda: len(it.events) == 2)
        assert it.events == [
            {"event": "program_stderr", "service": "smtp", "line": "first"},
            {"event": "program_stderr", "service": "smtp", "line": "second \\xff"},
        ]


@pytest.mark.usefixtures("_brief")
async def test_a_flood_is_cut_off_and_counted() -> None:
    async with reading() as it:
        it.write(b"x\n" * 10_000)
        await it.until(it.dropped)
        assert MAX_LINES <= len(it.lines()) < 2 * MAX_LINES
        assert len(it.lines()) + it.dropped() == 10_000
        it.write(b"after\n")
        await it.until(lambda: it.lines()[-1] == "after")


@pytest.mark.slow
async def test_a_service_whose_rate_allows_it_loses_no_line_of_a_flood() -> None:
    async with reading() as it:
        it.log.follow(Rate(count=50_000, seconds=1.0, burst=50_000), it.sessions)
        await it.write_all(b"".join(b"%d > EHLO client.example\n" % number for number in range(40_000)))
        await it.until(lambda: len(it.lines()) == 40_000)
        assert it.lines() == [f"{number} > EHLO client.example" for number in range(40_000)]
        assert not it.dropped()


@pytest.mark.usefixtures("_brief")
async def test_a_rate_of_lines_holds_for_longer_than_a_second() -> None:
    async with reading() as it:
        it.log.follow(Rate(count=3, seconds=3600.0, burst=3), it.sessions)
        it.write(b"x\n" * 5)
        await it.until(it.dropped)
        it.write(b"x\n" * 5)
        await it.until(lambda: it.dropped() == 7)
        assert len(it.lines()) == 3


@pytest.mark.usefixtures("_brief")
async def test_one_service_does_not_share_the_rate_of_another() -> None:
    async with reading() as it, reading() as other:
        it.write(b"x\n" * 10_000)
        await it.until(it.dropped)
        assert (await other.written(b"alone\n"))["line"] == "alone"


async def test_lines_wait_for_a_moment_while_the_log_has_no_room() -> None:
    async with reading() as it:
        it.room = False
        it.write(b"x\n" * 100)
        asyncio.get_running_loop().call_later(0.1, setattr, it, "room", True)
        await it.until(lambda: len(it.lines()) == 100)


@pytest.mark.usefixtures("_brief")
async def test_where_the_log_has_no_room_for_long_lines_are_counted_and_programs_go_on() -> None:
    async with reading() as it:
        it.room = False
        await it.write_all(b"x\n" * 100_000)
        await it.until(lambda: it.dropped() == 100_000)
        it.room = True
        assert (await it.written(b"after\n"))["line"] == "after"


async def test_lines_that_the_level_leaves_out_are_read_and_not_counted() -> None:
    async with reading("warning") as it:
        await it.write_all(b"x\n" * 100_000)
        assert it.events == []


async def test_a_line_has_the_session_where_only_one_can_have_written_it() -> None:
    async with reading() as it:
        it.sessions.begin(0x1A)
        assert "conn" not in await it.written(b"while it is not known who writes\n")
        it.log.follow(STDERR_RATE, it.sessions)
        assert (await it.written(b"its own\n"))["conn"] == "1a"
        it.sessions.begin(0x1B)
        assert "conn" not in await it.written(b"of one of two\n")
        it.sessions.end(0x1A)
        assert "conn" not in await it.written(b"of one of two still\n")
        assert (await it.written(b"of the other\n"))["conn"] == "1b"
        it.sessions.end(0x1B)
        assert (await it.written(b"its last words\n"))["conn"] == "1b"
        assert "conn" not in await it.written(b"of a process that it has left behind\n")


async def test_what_was_in_the_pipe_before_all_sessions_were_known_is_nobodys() -> None:
    async with reading() as it:
        it.sessions.begin(0x1A)
        it.write(b"of an earlier loop's, perhaps\n")
        it.log.follow(STDERR_RATE, it.sessions)
        await it.until(it.lines)
        assert "conn" not in it.events[-1]
        assert (await it.written(b"its own\n"))["conn"] == "1a"
        other = Sessions()
        it.log.follow(STDERR_RATE, other)
        assert "conn" not in await it.written(b"of a process that is left of the service of before\n")


async def test_a_line_that_two_sessions_have_written_is_of_neither() -> None:
    async with reading() as it:
        it.log.follow(STDERR_RATE, it.sessions)
        await it.written(b"empty from here on\n")
        it.sessions.begin(1)
        it.sessions.end(1)
        assert (await it.written(b"its last words\nbegun "))["conn"] == "1"
        it.sessions.begin(2)
        event = await it.written(b"and ended\n")
        assert event == {"event": "program_stderr", "service": "smtp", "line": "begun and ended"}
        assert (await it.written(b"its own\n"))["conn"] == "2"


@pytest.mark.usefixtures("_brief")
async def test_programs_that_write_without_end_wait_and_go_on_in_the_next_second() -> None:
    async with reading() as it:
        os.set_blocking(it.writing, False)
        written = 0

        def write() -> None:
            nonlocal written
            with contextlib.suppress(BlockingIOError):
                written += os.write(it.writing, b"y\n" * 8192)

        asyncio.get_running_loop().add_writer(it.writing, write)
        pipe = fcntl.fcntl(it.writing, fcntl.F_GETPIPE_SZ)
        for second in (1, 2):
            await it.until(lambda: it.dropped() > (second - 1) * MAX_BYTES // 2)  # noqa: B023
            assert written <= second * MAX_BYTES + pipe + 16384
        asyncio.get_running_loop().remove_writer(it.writing)
        assert written > MAX_BYTES


@pytest.mark.usefixtures("_brief")
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
