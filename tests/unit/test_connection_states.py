"""The table of a connection's life, walked whole."""

import itertools

import pytest

from ucspid.policy.connection_states import ENDED, NEXT, STEP, ConnectionState, Event

PAIRS = list(itertools.product(ConnectionState, Event))


def test_every_state_is_reached_from_the_first() -> None:
    reached = {ConnectionState.ACCEPTED}
    for _ in ConnectionState:
        reached |= {after for (before, _event), after in NEXT.items() if before in reached}
    assert reached == set(ConnectionState)


def test_the_end_is_reached_from_every_other_state_and_never_left() -> None:
    leads_on = {before for before, _event in NEXT}
    assert leads_on == set(ConnectionState) - ENDED


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair in NEXT])
def test_a_step_listed_is_taken(state: ConnectionState, event: Event) -> None:
    assert STEP[state, event] is NEXT[state, event]


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair not in NEXT])
def test_any_other_step_is_a_bug_that_names_both(state: ConnectionState, event: Event) -> None:
    with pytest.raises(AssertionError, match=f"{state.value}.*{event.value}"):
        STEP[state, event]
