"""The log of the event loop's process: structlog events as lines, written without blocking the loop.

Used by the loop's composition root only, which calls configure() once and close() at its end.
An event becomes bytes where it is logged and goes into a bounded buffer; one thread writes the
buffer out. A thread, because the descriptor may be a file, a pipe, a terminal or a socket whose
O_NONBLOCK flag is shared with other processes and is therefore not ours to set.

Fields may hold hostile text. Whatever they hold, an event is one line without control
characters, and logging it does not raise.
"""

import os
import re
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Literal

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from ucspid.observe.tails import LEVELS, Tails
from ucspid.observe.transcript import Transcript
from ucspid.observe.writer import Writer

CAPACITY = 1 << 20
"""Bytes that may wait to be written, unless configure() is given another number."""

_NONE = 60
"""Above all levels."""
_AFTER_TRACEBACK = 1
"""The place among the processors where an exception is text already, and nothing is rendered yet."""
_IN_TRANSCRIPT = frozenset(
    {"connection_served", "connection_refused", "connections_refused", "connection_failed"}
)
_COLOURS = {"debug": "36", "info": "32", "warning": "33", "error": "31", "critical": "31"}
_TIME_OF_DAY = slice(11, 23)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(rb"\x7f|\xc2[\x80-\x9f]")

Renderer = Callable[[Any, str, MutableMapping[str, Any]], bytes]


class LogOutput:
    """A configured log: the logger to use, its level, and its end."""

    def __init__(
        self,
        logger: FilteringBoundLogger,
        writer: Writer,
        processors: list[Any],
        level: str,
        transcript: Transcript | None = None,
    ) -> None:
        """Wrap what configure() made; the logger uses the processors."""
        self.logger = logger
        self.transcript = transcript
        """Writes the lines of connections, where the format is tcpserver's."""
        self.tails = Tails(partial(render_json, None), self._follow)
        """Those who read events beside the log."""
        self._writer = writer
        self._processors = processors
        self._tcpserver = transcript is not None
        self._level = level

    def set_level(self, level: str) -> None:
        """Log from this level on ("debug", "info", "warning", "error", "none").

        It holds for everyone who kept the logger, but not for loggers already bound to
        more fields with bind().
        """
        self._level = level
        self._follow()
        if self.transcript is not None:
            self.transcript.set_level(level)

    def _follow(self) -> None:
        """Have events pass from the lowest level on that is logged or read."""
        # structlog builds the level into the logger's class, so that an event below it
        # costs one call that returns; another level is therefore another class.
        read = self.tails.level
        number = _number(self._level, tcpserver=self._tcpserver)
        self.logger.__class__ = _filtering(number if read is None else min(read, number))
        if (read is not None) != (self._note in self._processors):
            if read is None:
                self._processors.remove(self._note)
            else:
                self._processors.insert(_AFTER_TRACEBACK, self._note)

    def _note(self, _sink: Any, level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Show an event to those who read, and the log only what it would have without them."""
        self.tails.note(level, fields)
        if LEVELS[level] < _number(self._level, tcpserver=self._tcpserver):
            raise structlog.DropEvent
        return fields

    def go_on_alone(self) -> None:
        """Log no more events of the daemon, which has exited: only what tcpserver's connections say."""
        self._level = "none"
        self._follow()
        if self.transcript is not None:
            self.transcript.go_on_alone()

    def has_room(self) -> bool:
        """Return whether half of the buffer is free: that is not for what may come in masses."""
        return self._writer.has_room()

    def close(self, timeout: float) -> bool:
        """Write what is buffered, for at most timeout seconds; return whether all was written out.

        What is logged after close() is lost.
        """
        return self._writer.close(timeout)


def configure(
    fd: int,
    format: Literal["auto", "console", "json", "tcpserver"],  # noqa: A002
    level: str,
    capacity: int = CAPACITY,
) -> LogOutput:
    """Start the log on descriptor fd, which stays the caller's, with a buffer of capacity bytes.

    format "auto" is "console" on a terminal and "json" elsewhere; level is the lowest that is
    logged. "tcpserver" has the lines of its transcript, and of events only warnings and errors. A
    terminal gets colours unless NO_COLOR is set (no-color.org). Events that find the buffer full, or
    that the descriptor refuses, are dropped and counted; an event `log_dropped` has the count when
    there is room again.
    """
    terminal = os.isatty(fd)
    console = format == "console" or (format == "auto" and terminal)
    colours = terminal and not os.environ.get("NO_COLOR")
    tcpserver = format == "tcpserver"
    render: Renderer = render_json
    if console:
        render = console_renderer(terminal=terminal, colours=colours)
    elif tcpserver:
        render = render_warning

    def report(count: int) -> bytes:
        return render(None, "warning", {"event": "log_dropped", "count": count})

    writer = Writer(fd, capacity, report)
    processors: list[Any] = [_with_traceback, render]
    logger = structlog.wrap_logger(
        _Sink(writer.put),
        processors=processors,
        wrapper_class=_filtering(_number(level, tcpserver=tcpserver)),
        cache_logger_on_first_use=True,
    )
    transcript = Transcript(writer.put, level) if tcpserver else None
    return LogOutput(logger.bind(), writer, processors, level, transcript)


def _number(level: str, *, tcpserver: bool) -> int:
    """Return the lowest level that is logged, as a number."""
    return _NONE if level == "none" else max(LEVELS[level], LEVELS["warning"] if tcpserver else 0)


def _filtering(number: int) -> type[FilteringBoundLogger]:
    """Return the class of loggers from a level on."""
    return _Silent if number == _NONE else structlog.make_filtering_bound_logger(number)


class _Silent(structlog.make_filtering_bound_logger("critical")):  # type: ignore[misc]
    """Logs nothing, where the highest level of structlog still has events."""

    def critical(self, *_words: object, **_fields: object) -> None:
        """Drop it."""


def render_warning(_sink: Any, _level: str, fields: MutableMapping[str, Any]) -> bytes:
    """Return the event as a warning of tcpserver's; raise DropEvent for what its transcript has."""
    event = fields.pop("event")
    if event in _IN_TRANSCRIPT or "unusable" in fields:  # of rules: each client who is refused has a line
        raise structlog.DropEvent
    trace = str(fields.pop("exception", "")).splitlines()
    words = [f"{key}={_text(value)}" for key, value in fields.items()]
    line = " ".join(["tcpserver: warning:", _text(event), *words, *map(_text, trace[-1:])])
    return line.encode("utf-8", "backslashreplace") + b"\n"


def render_json(_sink: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
    r"""Return the event as one JSON object and a newline: ts, level, event, then its fields in order.

    ts is RFC 3339 in UTC with microseconds. A surrogate in a string, which is how Python
    holds a byte that is not UTF-8, becomes its escape as text: \x80.
    """
    record = {"ts": _timestamp(), "level": level, "event": fields.pop("event"), **fields}
    try:
        line = _JSON.encode(record)
    except UnicodeEncodeError:
        line = _JSON.encode(_without_surrogates(record))
    if not line.isascii() or b"\x7f" in line:
        # JSON escapes the controls of ASCII only, but a terminal obeys those of Unicode too.
        line = _CONTROL.sub(lambda match: b"\\u%04x" % match[0][-1], line)
    return line + b"\n"


def console_renderer(*, terminal: bool, colours: bool) -> Renderer:
    """Return a renderer for people: local time, level, event, then key=value.

    On a terminal the time of day is enough; elsewhere, where lines may be
    kept, they have the date and the offset from UTC. A value with spaces, quotes or characters
    that do not print is shown as a quoted Python string. Texts of several lines, lists and the
    lines of an exception follow, indented.
    """

    def render(_sink: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
        event, trace = _text(fields.pop("event")), fields.pop("exception", None)
        now = datetime.now(UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")
        word = f"{level:<7}"
        if terminal:
            now = now[_TIME_OF_DAY]
        if colours:
            word, event = f"\x1b[{_COLOURS[level]}m{word}\x1b[0m", f"\x1b[1m{event}\x1b[0m"
        below = {key: rows for key, value in fields.items() if (rows := _rows(value)) is not None}
        parts = [now, word, event]
        parts += [f"{key}={_text(value)}" for key, value in fields.items() if key not in below]
        line = " ".join(parts) + "\n"
        for key, rows in below.items():
            line += "".join(f"    {key}: {_printable(row)}\n" for row in rows)
        if trace is not None:
            line += "".join(f"    {_printable(row)}\n" for row in str(trace).splitlines())
        return line.encode("utf-8", "backslashreplace")

    return render


def _with_traceback(sink: Any, level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Turn exc_info, where an event has it, into the field exception: the traceback as text."""
    return structlog.processors.format_exc_info(sink, level, fields) if "exc_info" in fields else fields


def _timestamp() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_date_and_time(seconds)}.{nanoseconds // 1000:06d}Z"


@lru_cache(maxsize=1)
def _date_and_time(seconds: int) -> str:
    # Kept, because events come many to a second and formatting one costs 2 microseconds.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _Sink:
    """What structlog hands rendered events to: one method per level, all the same."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub(_escaped_surrogate, value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value


def _escaped_surrogate(match: re.Match[str]) -> str:
    # 0xDC00 + byte is what the surrogateescape error handler makes of a byte (PEP 383).
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"  # noqa: PLR2004


def _as_json(value: Any) -> Any:
    """Return what JSON can hold in place of a value that it cannot."""
    return _without_surrogates(str(value))


_JSON = msgspec.json.Encoder(enc_hook=_as_json)


def _text(value: Any) -> str:
    """Return the value as one word of a console line."""
    if not isinstance(value, str):
        return _printable(str(value))
    bare = value.isprintable() and value and not set(" \"'=") & set(value)
    return value if bare else repr(value)


def _rows(value: object) -> list[str] | None:
    """Return the rows of a value that does not go on the line of its event, None of one that does."""
    if isinstance(value, list):
        return [str(item) for item in value]
    return value.split("\n") if isinstance(value, str) and "\n" in value else None


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)
