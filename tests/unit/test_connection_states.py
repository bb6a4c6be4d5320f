"""The table of a connection's life, walked whole."""

import itertools

import pytest

from ucspid.policy.connection_states import ENDED, NEXT, STEP, Event, State

PAIRS = list(itertools.product(State, Event))


def test_every_state_is_reached_from_the_first() -> None:
    reached = {State.ACCEPTED}
    for _ in State:
        reached |= {after for (before, _event), after in NEXT.items() if before in reached}
    assert reached == set(State)


def test_the_end_is_reached_from_every_other_state_and_never_left() -> None:
    leads_on = {before for before, _event in NEXT}
    assert leads_on == set(State) - ENDED


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair in NEXT])
def test_a_step_listed_is_taken(state: State, event: Event) -> None:
    assert STEP[state, event] is NEXT[state, event]


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair not in NEXT])
def test_any_other_step_is_a_bug_that_names_both(state: State, event: Event) -> None:
    with pytest.raises(AssertionError, match=f"{state.value}.*{event.value}"):
        STEP[state, event]
