"""The log of the event loop's process: structlog events as lines, written without blocking the loop.

Used by the loop's composition root only, which calls configure() once and close() at its end.
An event becomes bytes where it is logged and goes into a bounded buffer; one thread writes the
buffer out. A thread, because the descriptor may be a file, a pipe, a terminal or a socket whose
O_NONBLOCK flag is shared with other processes and is therefore not ours to set.

Fields may hold hostile text. Whatever they hold, an event is one line without control
characters, and logging it does not raise.
"""

import os
from collections.abc import Callable, MutableMapping
from functools import cache, partial
from typing import Any, Literal

import structlog
from structlog.typing import FilteringBoundLogger

from ucspid.observe.journal import Journal
from ucspid.observe.pseudonyms import Pseudonyms
from ucspid.observe.renderers import (
    PRIORITIES,
    Renderer,
    console_renderer,
    prefix_lines,
    render_json,
    render_logfmt,
    render_warning,
    with_priority,
)
from ucspid.observe.tails import LEVELS, Tails
from ucspid.observe.transcript import Transcript
from ucspid.observe.writer import ByteOutput, Writer

CAPACITY = 1 << 20
"""Bytes that may wait to be written, unless configure() is given another number."""

Format = Literal["auto", "console", "json", "logfmt", "tcpserver"]

_NONE = 60
"""Above all levels."""
_AFTER_TRACEBACK = 1
"""The place among the processors where an exception is text already, and nothing is rendered yet."""
_WARNING = b"tcpserver: warning:"


class LogOutput:
    """A configured log: the logger to use, its level, and its end."""

    def __init__(
        self,
        logger: FilteringBoundLogger,
        writer: Writer,
        processors: list[Any],
        level: str,
        transcript: Transcript | None = None,
        started: str = "debug",
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
        self._started = started
        self._follow()

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
        self.logger.__class__ = _filtering(number if read is None else min(read, number), self._started)
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

    @property
    def dropped(self) -> int:
        """How many events were dropped so far."""
        return self._writer.dropped

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
    format: Format,  # noqa: A002
    level: str,
    capacity: int = CAPACITY,
    *,
    journal: Journal | None = None,
    pseudonyms: Pseudonyms | None = None,
    started: Literal["debug", "info"] = "debug",
) -> LogOutput:
    """Start the log on descriptor fd, which stays the caller's, with a buffer of capacity bytes.

    format "auto" is "console" on a terminal, the journal's own if it is there, and "json" elsewhere; level is
    the lowest that is logged. "tcpserver" has the lines of its transcript, and of events only warnings and
    errors. A terminal gets colours unless NO_COLOR is set (no-color.org). Events that find the buffer full,
    or that the descriptor refuses, are dropped and counted; an event `log_dropped` has the count when there
    is room again. journal is where fd leads, if it does; pseudonyms are shown in place of clients'
    addresses; started is the level of connection_started.
    """
    native = format == "auto" and journal is not None and journal.native
    tcpserver = format == "tcpserver"
    if journal is None:
        render = _renderer(fd, format)
    else:
        render = journal.render if native else with_priority(_renderer(fd, format))

    def report(count: int) -> bytes:
        return render(None, "warning", {"event": "log_dropped", "count": count})

    writer = Writer(journal if native and journal is not None else ByteOutput(fd), capacity, report)
    processors: list[Any] = [_with_traceback, render]
    if pseudonyms is not None:
        processors.insert(_AFTER_TRACEBACK, pseudonyms.of_event)
    logger = structlog.wrap_logger(
        _Sink(writer.put),
        processors=processors,
        wrapper_class=_filtering(_number(level, tcpserver=tcpserver)),
        cache_logger_on_first_use=True,
    )
    put = writer.put if journal is None else _prioritized(writer.put)
    transcript = Transcript(put, level, pseudonyms) if tcpserver else None
    return LogOutput(logger.bind(), writer, processors, level, transcript, started)


def _renderer(fd: int, form: Format) -> Renderer:
    terminal = os.isatty(fd)
    if form == "console" or (form == "auto" and terminal):
        return console_renderer(terminal=terminal, colours=terminal and not os.environ.get("NO_COLOR"))
    return {"tcpserver": render_warning, "logfmt": render_logfmt}.get(form, render_json)


def _prioritized(put: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return what puts lines of the transcript with their priorities."""

    def put_with_priority(lines: bytes) -> None:
        level = "warning" if lines.startswith(_WARNING) else "info"
        put(prefix_lines(lines, PRIORITIES[level]))

    return put_with_priority


def _number(level: str, *, tcpserver: bool) -> int:
    """Return the lowest level that is logged, as a number."""
    return _NONE if level == "none" else max(LEVELS[level], LEVELS["warning"] if tcpserver else 0)


@cache
def _filtering(number: int, started: str = "debug") -> type[FilteringBoundLogger]:
    """Return the class of loggers from a level on, with the level of connection_started."""
    filtering = _Silent if number == _NONE else structlog.make_filtering_bound_logger(number)
    own = {"started_level": LEVELS[started]}
    return filtering if started == "debug" else type("Filtering", (filtering,), own)


class _Silent(structlog.make_filtering_bound_logger("critical")):  # type: ignore[misc]
    """Logs nothing, where the highest level of structlog still has events."""

    def critical(self, *_words: object, **_fields: object) -> None:
        """Drop it."""


def _with_traceback(sink: Any, level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Turn exc_info, where an event has it, into the field exception: the traceback as text."""
    return structlog.processors.format_exc_info(sink, level, fields) if "exc_info" in fields else fields


class _Sink:
    """What structlog hands rendered events to: one method per level, all the same."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put
