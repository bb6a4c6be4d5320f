import fcntl
import json
import os
import pty
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.observe import events
from ucspid.observe.log import configure
from ucspid.observe.renderers import console_renderer, render_json, render_logfmt
from ucspid.observe.writer import ByteOutput, Writer

SESSION: Any = SimpleNamespace(
    service=SimpleNamespace(name="smtp"),
    number=1,
    remote="192.0.2.7:1",
    balancer=None,
    tls=None,
    began=0.0,
)

# Any code point, also the lone surrogates that stand for bytes that are not UTF-8, and often what hurts.
hostile = st.text(st.characters() | st.sampled_from("\x1b\n\r\0\x7f\x9b\u2028\udc80\ud800"))
COLOUR = re.compile(r"\x1b\[\d+m")
CONTROLS = re.compile("[\0-\x1f\x7f-\x9f]")


@contextmanager
def pipe(size: int | None = None) -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    if size is not None:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
    try:
        yield reader, writer
    finally:
        for fd in (reader, writer):
            with suppress(OSError):  # closed by the test
                os.close(fd)


def read_all(reader: int, writer: int) -> bytes:
    os.close(writer)
    data = b""
    while chunk := os.read(reader, 1 << 16):
        data += chunk
    return data


def logged(level: str = "info", form: str = "json") -> list[str]:
    """Log one event at each of three levels and return the lines."""
    with pipe() as (reader, writer):
        log = configure(writer, form, level)  # type: ignore[arg-type]
        for method in (log.logger.debug, log.logger.info, log.logger.error):
            method("something", conn=7)
        assert log.close(5)
        return read_all(reader, writer).decode().splitlines()


class Watched(Writer):
    """A writer that reports when it is done with a chunk, and how much of it went out."""

    def __init__(self, fd: int, capacity: int = 1 << 20) -> None:
        self.settled: queue.SimpleQueue[int] = queue.SimpleQueue()
        super().__init__(ByteOutput(fd), capacity, lambda count: b"dropped %d\n" % count)

    def _settle(self, chunk: list[tuple[bytes, int]], written: int) -> None:
        super()._settle(chunk, written)
        self.settled.put(written)


def test_json_event_has_time_level_name_and_fields_in_order() -> None:
    with pipe() as (reader, writer):
        log = configure(writer, "json", "info")
        log.logger.info("connection_served", service="smtp", conn=12, duration=0.5)
        assert log.close(5)
        line = read_all(reader, writer)
    record = json.loads(line)
    assert list(record) == ["ts", "level", "event", "service", "conn", "duration"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.pop("ts"))
    assert record == {
        "level": "info",
        "event": "connection_served",
        "service": "smtp",
        "conn": 12,
        "duration": 0.5,
    }


def test_events_below_the_level_are_not_logged() -> None:
    assert len(logged("debug")) == 3
    assert len(logged("info")) == 2
    assert len(logged("error")) == 1


def test_set_level_holds_for_loggers_handed_out_before() -> None:
    with pipe() as (reader, writer):
        log = configure(writer, "json", "error")
        logger = log.logger
        logger.info("before")
        log.set_level("debug")
        logger.debug("after")
        log.set_level("error")
        logger.warning("again")
        assert log.close(5)
        assert [json.loads(line)["event"] for line in read_all(reader, writer).splitlines()] == ["after"]


@given(event=hostile, value=hostile)
def test_hostile_text_stays_within_one_json_line(event: str, value: str) -> None:
    line = render_json(None, "info", {"event": event, "field": value, "nested": {"list": [value]}}).decode()
    assert line.endswith("\n")
    assert not CONTROLS.search(line[:-1])
    record = json.loads(line)
    if not any("\ud800" <= character <= "\udfff" for character in event + value):
        assert (record["event"], record["field"], record["nested"]) == (event, value, {"list": [value]})


def test_bytes_that_are_not_utf8_are_distinguished_in_json() -> None:
    value = b"caf\xe9".decode("utf-8", "surrogateescape")
    record = json.loads(render_json(None, "info", {"event": "e", "helo": value, "odd": "\ud800"}))
    assert record["helo"] == r"caf\xe9"
    assert record["odd"] == r"\ud800"


def test_json_takes_values_that_are_not_json() -> None:
    record = json.loads(render_json(None, "info", {"event": "e", "error": OSError("\udcff"), "when": object}))
    assert record["error"] == r"\xff"
    assert record["when"] == "<class 'object'>"


@given(event=hostile, value=hostile)
def test_hostile_text_cannot_pass_for_another_event_on_a_console(event: str, value: str) -> None:
    render = console_renderer(terminal=False, colours=False)
    text = render(None, "info", {"event": event, "field": value, "nested": [value], "deep": {"a": value}})
    *lines, rest = text.decode().split("\n")
    assert rest == ""
    assert all(line.isprintable() and not CONTROLS.search(line) for line in lines)
    assert all(line.startswith(("    field: ", "    nested: ")) for line in lines[1:])


def test_what_has_several_rows_follows_the_line_of_its_event() -> None:
    render = console_renderer(terminal=False, colours=False)
    fields = {"event": "reloaded", "changes": ["a: added", "b: removed"], "why": "one\ntwo", "live": 1}
    first, *rows = render(None, "info", fields).decode().splitlines()
    assert first.endswith("info    reloaded live=1")
    assert rows == ["    changes: a: added", "    changes: b: removed", "    why: one", "    why: two"]


@pytest.mark.parametrize(
    ("terminal", "time"),
    [(False, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"), (True, r"\d\d:\d\d:\d\d\.\d{3}")],
)
def test_a_console_line_is_short_and_has_the_date_where_it_may_be_kept(terminal: bool, time: str) -> None:
    render = console_renderer(terminal=terminal, colours=False)
    fields = {"event": "refused", "service": "smtp", "live": 3, "why": "too many", "none": None, "empty": ""}
    line = COLOUR.sub("", render(None, "warning", fields).decode())
    assert re.fullmatch(
        rf"{time} warning refused service=smtp live=3 why='too many' none=None empty=''\n", line
    )


def test_console_field_cannot_pass_for_another() -> None:
    line = console_renderer(terminal=False, colours=False)(
        None, "info", {"event": "e", "helo": "x service=pop3"}
    ).decode()
    assert "helo='x service=pop3'" in line


@pytest.mark.parametrize("form", ["json", "console"])
def test_exception_is_logged_in_full(form: Literal["json", "console"]) -> None:
    with pipe() as (reader, writer):
        log = configure(writer, form, "info")
        error = ValueError("bad\x1b[2J\nFAKE")
        log.logger.error("internal_error", exc_info=error)
        assert log.close(5)
        text = read_all(reader, writer).decode()
    assert "ValueError: bad" in text
    assert "\x1b" not in text
    if form == "json":
        assert "ValueError: bad\x1b[2J\nFAKE" in json.loads(text)["exception"]
    else:
        assert all(line.startswith("    ") for line in text.splitlines()[1:])


def test_logfmt_has_words() -> None:
    fields = {"event": "e", "why": 'too "many"', "none": None, "empty": "", "list": ["a", "b c"]}
    line = render_logfmt(None, "info", fields).decode()
    assert line.partition(" ")[2] == (
        r'level=info event=e why="too \"many\"" none=None empty="" list="a b c"' + "\n"
    )


@given(hostile, hostile)
def test_a_field_in_logfmt_is_one_word_or_one_string(event: str, value: str) -> None:
    line = render_logfmt(None, "info", {"event": event, "field": value}).decode()
    assert not CONTROLS.search(line.removesuffix("\n"))
    word = r'("(?:[^"\\]|\\.)*"|[^\s"=]+)'
    assert re.fullmatch(rf"ts={word} level=info event={word} field={word}\n", line)


def test_programs_that_start_are_logged_at_info_where_that_is_wanted() -> None:
    for started, expected in (("debug", 0), ("info", 1)):
        with pipe() as (reader, writer):
            log = configure(writer, "json", "info", started=started)  # type: ignore[arg-type]
            events.connection_started(log.logger, SESSION, 7)
            log.set_level("warning")
            events.connection_started(log.logger, SESSION, 7)
            assert log.close(5)
            assert len(read_all(reader, writer).splitlines()) == expected


def test_auto_is_json_off_a_terminal() -> None:
    assert json.loads(logged(form="auto")[0])["event"] == "something"


def on_a_terminal() -> bytes:
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen:
        log = configure(slave, "auto", "info")
        log.logger.info("something", conn=7)
        assert log.close(5)
        line = screen.read(200)
        os.close(slave)
    assert line is not None
    return line


@pytest.mark.parametrize("no_color", [None, ""])
def test_auto_is_coloured_console_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, no_color: str | None
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    line = on_a_terminal()
    assert b"\x1b[32minfo" in line
    assert b"conn=7" in line


def test_no_color_is_plain_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    line = on_a_terminal()
    assert b"info    something conn=7" in line
    assert b"\x1b" not in line


def test_console_is_plain_off_a_terminal() -> None:
    assert "\x1b" not in "".join(logged(form="console"))


def test_full_buffer_drops_and_the_log_says_how_many() -> None:
    total = 2000
    with pipe(4096) as (reader, writer):
        log = configure(writer, "json", "info", capacity=20_000)
        for number in range(total):
            log.logger.info("event", number=number)  # nobody reads: this would block if it waited
        lines: list[bytes] = []
        rest = b""
        while sum(1 if b'"event":"event"' in line else json.loads(line)["count"] for line in lines) < total:
            rest += os.read(reader, 1 << 16)
            *more, rest = rest.split(b"\n")
            lines += more
        assert log.close(5)
        assert read_all(reader, writer) == b""
    events = [json.loads(line) for line in lines]
    reports = [event for event in events if event["event"] == "log_dropped"]
    assert len(reports) == 1
    assert reports[0]["level"] == "warning"
    assert sum(map(len, lines)) < 20_000 + 4096 + 200
    numbers = [event["number"] for event in events if event["event"] == "event"]
    assert numbers == list(range(len(numbers)))


def test_after_a_drop_all_is_dropped_until_half_of_the_buffer_is_free() -> None:
    with pipe(4096) as (reader, writer):
        log = Watched(writer, capacity=8000)
        for _ in range(2):
            log.put(b"x" * 4999 + b"\n")  # the second does not fit beside the first
        log.put(b"small\n")  # would fit, but comes before half of the room is free
        assert os.read(reader, 4096) == b"x" * 4096
        assert log.settled.get(timeout=20) == 5000
        log.put(b"after\n")
        assert log.close(5)
        assert read_all(reader, writer) == b"x" * 903 + b"\ndropped 2\nafter\n"


def test_a_line_larger_than_the_buffer_is_dropped_alone() -> None:
    with pipe() as (reader, writer):
        log = Watched(writer, capacity=100)
        log.put(b"x" * 101)
        log.put(b"small\n")
        assert log.close(5)
        assert read_all(reader, writer) == b"small\ndropped 1\n"


def test_non_blocking_descriptor_is_waited_for_and_left_non_blocking() -> None:
    with pipe(4096) as (reader, writer):
        os.set_blocking(writer, False)
        log = Watched(writer)
        lines = [b"%05d" % number + b"y" * 94 + b"\n" for number in range(300)]
        for line in lines:
            log.put(line)
        closer = threading.Thread(target=log.close, args=(5,))
        closer.start()
        received = b""
        while len(received) < 30_000:
            received += os.read(reader, 1000)
        closer.join()
        assert not os.get_blocking(writer)
        assert received == b"".join(lines)


def test_writer_survives_a_descriptor_that_refuses_every_byte() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        log = Watched(full.fileno())
        for _ in range(3):
            log.put(b"lost\n")
            assert log.settled.get(timeout=20) == 0
        assert log._dropped == 3
        assert log._size == 0
        assert log.close(5)


def test_writer_survives_a_closed_descriptor() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    high = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, 700)  # a number that nothing else will get
    os.close(writer)
    os.close(high)
    log = Watched(high)
    log.put(b"lost\n")
    assert log.settled.get(timeout=20) == 0
    assert log.close(5)


def test_after_an_error_the_log_goes_on_with_a_whole_line_and_the_count(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    log = Watched(writer)
    os.set_blocking(reader, True)
    log.put(b"t" * 19_999 + b"\n")
    assert os.read(reader, 4096) == b"t" * 4096
    os.close(reader)  # in the middle of the line: EPIPE
    assert 0 < log.settled.get(timeout=20) < 20_000
    log.put(b"lost\n")
    assert log.settled.get(timeout=20) == 0
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while os.read(reader, 4096):
            pass  # what of the torn line was still in the pipe
    log.put(b"whole\n")
    assert log.settled.get(timeout=20) == 6
    assert log.close(5)
    os.set_blocking(reader, True)
    received = read_all(reader, writer)
    os.close(reader)
    assert received == b"\nwhole\ndropped 2\n"


def test_close_gives_up_after_its_timeout() -> None:
    with pipe(4096) as (reader, writer):
        log = Watched(writer)
        log.put(b"z" * 10_000)
        assert not log.close(0.01)
        left = 10_000
        while left:
            left -= len(os.read(reader, 4096))
        assert log.close(5)


def test_close_writes_what_is_buffered() -> None:
    with pipe() as (reader, writer):
        log = configure(writer, "json", "info")
        for number in range(200):
            log.logger.info("event", number=number)
        assert log.close(5)
        assert len(read_all(reader, writer).splitlines()) == 200
