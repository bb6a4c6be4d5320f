"""The life of one connection, from accept(2) to its end: a table of states and events.

Any other step is a bug.

A connection is one object in every state. What it holds in the limits is taken by a stage in
ACCEPTED, and given back on entering REFUSED, SERVED or FAILED, and nowhere else.
"""

import enum


class ConnectionState(enum.StrEnum):
    """Where a connection stands."""

    ACCEPTED = "accepted"
    """The stages of admission decide on it; none of them waits."""
    PENDING = "pending"
    """A stage waits for the network or a rules file, within the connection's deadline."""
    QUEUED = "queued"
    """Admitted; waits for a session's slot, or for a launcher."""
    HANDED = "handed"
    """Its socket is at a launcher; ours is closed. It is a session from here on."""
    RUNNING = "running"
    """Its program runs; the process is known."""
    REFUSED = "refused"
    """Counted: closed without a program."""
    SERVED = "served"
    """Counted: its program has ended."""
    FAILED = "failed"
    """Counted: its program could not be started."""


class Event(enum.StrEnum):
    """What can happen to a connection."""

    WAITS = "waits"
    GOES_ON = "goes on"
    ADMITTED = "admitted"
    HANDED = "handed"
    REFUSED = "refused"
    STARTED = "started"
    START_FAILED = "start failed"
    EXITED = "exited"


NEXT = {
    (ConnectionState.ACCEPTED, Event.WAITS): ConnectionState.PENDING,
    (ConnectionState.ACCEPTED, Event.ADMITTED): ConnectionState.QUEUED,
    (ConnectionState.ACCEPTED, Event.HANDED): ConnectionState.HANDED,
    (ConnectionState.ACCEPTED, Event.REFUSED): ConnectionState.REFUSED,
    (ConnectionState.PENDING, Event.GOES_ON): ConnectionState.ACCEPTED,
    (ConnectionState.PENDING, Event.REFUSED): ConnectionState.REFUSED,
    (ConnectionState.QUEUED, Event.HANDED): ConnectionState.HANDED,
    (ConnectionState.QUEUED, Event.REFUSED): ConnectionState.REFUSED,
    (ConnectionState.HANDED, Event.STARTED): ConnectionState.RUNNING,
    (ConnectionState.HANDED, Event.START_FAILED): ConnectionState.FAILED,
    (ConnectionState.RUNNING, Event.START_FAILED): ConnectionState.FAILED,
    (ConnectionState.RUNNING, Event.EXITED): ConnectionState.SERVED,
}
"""A start may fail after it was reported: a launcher that does not wait for execve(2) says so later."""

ENDED = frozenset({ConnectionState.REFUSED, ConnectionState.SERVED, ConnectionState.FAILED})
"""States without a next one."""


class _Steps(dict[tuple[ConnectionState, Event], ConnectionState]):
    """The table, as a step is taken: a step that cannot be raises AssertionError."""

    def __missing__(self, step: tuple[ConnectionState, Event]) -> ConnectionState:
        state, event = step
        raise AssertionError(f"a connection that is {state.value} cannot have {event.value}")


STEP = _Steps(NEXT)
"""The state after an event: STEP[state, event]. Raises AssertionError for a step that cannot be."""
