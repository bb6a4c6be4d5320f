"""The phases of the master: what can follow what, and what begins when."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.master.transition import NEXT, Phase, Step, Transition


def after(*steps: Step) -> Transition:
    transition = Transition()
    for step in steps:
        transition.take(step)
    return transition


def test_a_reload_goes_through_its_phases() -> None:
    transition = after(Step.PREPARE)
    assert transition.phase is Phase.PREPARING
    transition.take(Step.PREPARED)
    assert (transition.phase, transition.unserved) == (Phase.TAKING, True)
    transition.take(Step.TAKEN)
    assert (transition.phase, transition.unserved) == (Phase.IDLE, False)


@pytest.mark.parametrize("steps", [(Step.PREPARE,), (Step.TRY,)])
def test_what_fails_leaves_everything_as_it_was(steps: tuple[Step, ...]) -> None:
    transition = after(*steps, Step.FAILED)
    assert (transition.phase, transition.unserved) == (Phase.IDLE, False)


def test_a_plan_that_is_overdue_blocks_no_other_and_may_be_taken_whatever_is_under_way() -> None:
    transition = after(Step.PREPARE, Step.PREPARED, Step.OVERDUE)
    transition.reload_wanted = True
    assert transition.due() is Step.PREPARE
    transition.take(Step.PREPARE)
    assert transition.unserved
    transition.take(Step.TAKEN)
    assert (transition.phase, transition.unserved) == (Phase.PREPARING, False)


def test_what_is_wanted_begins_when_nothing_is_under_way_an_upgrade_first() -> None:
    transition = after(Step.PREPARE)
    transition.reload_wanted = transition.upgrade_wanted = True
    assert transition.due() is None
    transition.take(Step.FAILED)
    assert transition.due() is Step.TRY
    transition.take(Step.TRY)
    transition.take(Step.FAILED)
    assert transition.due() is Step.PREPARE
    transition.take(Step.PREPARE)
    transition.take(Step.FAILED)
    assert transition.due() is None


@pytest.mark.parametrize("phase", Phase)
def test_a_stop_is_possible_in_every_phase_and_nothing_begins_after_it(phase: Phase) -> None:
    transition = Transition()
    transition.phase = phase
    transition.reload_wanted = transition.upgrade_wanted = True
    transition.take(Step.STOP)
    assert transition.phase is Phase.DRAINING
    assert transition.due() is None


def test_any_other_step_is_a_bug() -> None:
    for phase, step in itertools.product(Phase, Step):
        transition = Transition()
        transition.phase = phase
        if (phase, step) not in NEXT:
            with pytest.raises(KeyError):
                transition.take(step)


@given(st.lists(st.sampled_from([*Step])))
def test_no_order_of_steps_is_the_end_of_reloads(steps: list[Step]) -> None:
    """From every phase but the last, idleness can be reached by a step that comes by itself, or in time."""
    transition = Transition()
    for step in steps:
        if (transition.phase, step) in NEXT:
            transition.take(step)
    endings = {
        Phase.PREPARING: Step.FAILED, Phase.TAKING: Step.OVERDUE, Phase.TRYING: Step.FAILED,
    }  # fmt: skip
    if transition.phase in endings:
        transition.take(endings[transition.phase])
    assert transition.phase in (Phase.IDLE, Phase.DRAINING)
