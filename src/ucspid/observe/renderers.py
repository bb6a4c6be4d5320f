"""What an event looks like as a line: for programs, for people, for who reads tcpserver's log."""

import re
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import structlog

_IN_TRANSCRIPT = frozenset(
    {"connection_served", "connection_refused", "connections_refused", "connection_failed"}
)
_COLOURS = {"debug": "36", "info": "32", "warning": "33", "error": "31", "critical": "31"}
_TIME_OF_DAY = slice(11, 23)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
_BARE = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f-\xa0\ud800-\udfff]+")

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""The levels as syslog(3) has them."""

Renderer = Callable[[Any, str, MutableMapping[str, Any]], bytes]


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


def render_logfmt(_sink: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
    """Return the event as words KEY=VALUE: ts, level, event, then its fields in order.

    A value with spaces, quotes or what is not plain text is a JSON string, a list is one with spaces.
    """
    record = {"ts": _timestamp(), "level": level, "event": fields.pop("event"), **fields}
    return " ".join(f"{key}={_logfmt(value)}" for key, value in record.items()).encode() + b"\n"


def message(fields: MutableMapping[str, Any]) -> str:
    """Return the event as a line without time and level; of a line of a program's no more than that."""
    event = fields["event"]
    if event == "program_stderr":
        return f"{fields['service']}: {_printable(str(fields['line']))}"
    words = [f"{key}={_text(value)}" for key, value in fields.items() if key not in _NO_WORDS]
    return " ".join([_printable(str(event)), *words])


def with_priority(render: Renderer) -> Renderer:
    """Return a renderer with the level before each line as journald takes it, sd-daemon(3)."""

    def prefixed(sink: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
        return prefix_lines(render(sink, level, fields), PRIORITIES[level])

    return prefixed


def prefix_lines(lines: bytes, priority: int) -> bytes:
    """Return lines with a priority before each."""
    return b"".join(b"<%d>%b" % (priority, line) for line in lines.splitlines(keepends=True))


def _timestamp() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_date_and_time(seconds)}.{nanoseconds // 1000:06d}Z"


@lru_cache(maxsize=1)
def _date_and_time(seconds: int) -> str:
    # Kept, because events come many to a second and formatting one costs 2 microseconds.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


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


def _logfmt(value: Any) -> str:
    """Return the value as one word."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if _BARE.fullmatch(text):
        return text
    line = _JSON.encode(_without_surrogates(text))
    return _CONTROL.sub(lambda match: b"\\u%04x" % match[0][-1], line).decode()


_NO_WORDS = {"event", "exception"}
