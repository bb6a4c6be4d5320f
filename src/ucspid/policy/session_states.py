"""The life of one accepted connection: a table of states and events; any other step is a bug.

A connection's slots in the limits are taken before HANDED and given back on entering ENDED,
and nowhere else. Refused connections end at once and never become a session.
"""

import enum


class State(enum.StrEnum):
    """Where a session stands."""

    HANDED = "handed"
    """Its socket is at a launcher; ours is closed."""
    RUNNING = "running"
    """Its program runs; the process is known."""
    ENDED = "ended"
    """Counted out: served or failed."""


class Event(enum.StrEnum):
    """What can happen to a session."""

    STARTED = "started"
    START_FAILED = "start failed"
    EXITED = "exited"


NEXT = {
    (State.HANDED, Event.STARTED): State.RUNNING,
    (State.HANDED, Event.START_FAILED): State.ENDED,
    (State.RUNNING, Event.EXITED): State.ENDED,
}


def step(state: State, event: Event) -> State:
    """Return the state after the event; raises AssertionError for a step that cannot be."""
    try:
        return NEXT[state, event]
    except KeyError:
        raise AssertionError(f"a connection that is {state.value} cannot have {event.value}") from None
