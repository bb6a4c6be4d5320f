"""The master's log: events queue here until a loop process writes them; the master writes nothing itself.

An event is kept until a loop says that it is logged. One that dies before it could say so may have logged
it: then it is there twice, which is better than not at all.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from ucspid.master.text import MAX_TEXT, shortened

MAX_WAITING = 1000
"""Events that wait while there is no loop, or one that does not read; older ones are dropped."""

SendEvent = Callable[[dict[str, Any]], bool]
"""Sends an event to the loop; returns whether it was taken: False if none can be taken now."""


class EventLog:
    """Events in the order in which they came. events.py has a function for each."""

    def __init__(self) -> None:
        """Begin with an empty queue that nobody flushes."""
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
        self._sent: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
        """Those that a loop was sent, and has not said to be logged."""
        self._flush: Callable[[], None] = lambda: None

    def to(self, flush: Callable[[], None]) -> None:
        """Call flush() for each event; it is to call send()."""
        self._flush = flush

    def info(self, event: str, **fields: object) -> None:
        """Log an event of the level info."""
        self.add("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log an event of the level warning."""
        self.add("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log an event of the level error."""
        self.add("error", event, fields)

    def add(self, level: str, event: str, fields: dict[str, object]) -> None:
        """Log an event; a text that is too long for a packet is cut."""
        for name, value in fields.items():
            if isinstance(value, str) and len(value) > MAX_TEXT // 16:
                fields[name] = shortened(value)
        self._waiting.append({"level": level, "event": event, "fields": fields})
        self._flush()

    def send(self, send: SendEvent) -> None:
        """Send queued events until one is not taken."""
        while self._waiting and send(self._waiting[0]):
            self._sent.append(self._waiting.popleft())

    def logged(self) -> None:
        """Forget the first of the events that were sent: it is logged."""
        if self._sent:
            self._sent.popleft()

    def lost(self) -> None:
        """Take back what was sent to a loop that has died: it is sent to the next."""
        self._waiting = deque((*self._sent, *self._waiting), MAX_WAITING)
        self._sent.clear()
