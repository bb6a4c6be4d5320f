"""The life of one connection, from accept(2) to its end: a table of states and events.

Any other step is a bug.

A connection is one object in every state. What it holds in the limits is taken by a stage in
ACCEPTED, and given back on entering REFUSED, SERVED or FAILED, and nowhere else.
"""

import enum


class State(enum.StrEnum):
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
    (State.ACCEPTED, Event.WAITS): State.PENDING,
    (State.ACCEPTED, Event.ADMITTED): State.QUEUED,
    (State.ACCEPTED, Event.HANDED): State.HANDED,
    (State.ACCEPTED, Event.REFUSED): State.REFUSED,
    (State.PENDING, Event.GOES_ON): State.ACCEPTED,
    (State.PENDING, Event.REFUSED): State.REFUSED,
    (State.QUEUED, Event.HANDED): State.HANDED,
    (State.QUEUED, Event.REFUSED): State.REFUSED,
    (State.HANDED, Event.STARTED): State.RUNNING,
    (State.HANDED, Event.START_FAILED): State.FAILED,
    (State.RUNNING, Event.START_FAILED): State.FAILED,
    (State.RUNNING, Event.EXITED): State.SERVED,
}
"""A start may fail after it was reported: a launcher that does not wait for execve(2) says so later."""

ENDED = frozenset({State.REFUSED, State.SERVED, State.FAILED})
"""States without a next one."""


class _Steps(dict[tuple[State, Event], State]):
    """The table, as a step is taken: a step that cannot be raises AssertionError."""

    def __missing__(self, step: tuple[State, Event]) -> State:
        state, event = step
        raise AssertionError(f"a connection that is {state.value} cannot have {event.value}")


STEP = _Steps(NEXT)
"""The state after an event: STEP[state, event]. Raises AssertionError for a step that cannot be."""
