import collections

from hypothesis import given
from hypothesis import strategies as st

from ucspid.policy.refusal_summary import SINGLE, WINDOW, Refusals

REASONS = st.sampled_from(["full", "per_ip", "rate"])


def test_the_first_few_are_logged_one_by_one() -> None:
    refusals = Refusals()
    assert [refusals.note("full", 100.0) for _ in range(SINGLE + 2)] == [True] * SINGLE + [False] * 2


def test_the_rest_are_summed_up_by_reason() -> None:
    refusals = Refusals()
    for _ in range(SINGLE):
        refusals.note("full", 100.0)
    for reason in ("full", "per_ip", "full"):
        assert not refusals.note(reason, 101.0)
    assert refusals.unreported == 3
    assert refusals.ends == 100.0 + WINDOW
    assert refusals.summary() == {"full": 2, "per_ip": 1}
    assert refusals.unreported == 0


def test_a_new_window_begins_with_the_first_refusal_after_the_old_one() -> None:
    refusals = Refusals()
    for _ in range(SINGLE + 1):
        refusals.note("full", 100.0)
    refusals.summary()
    assert not refusals.note("full", 100.0 + WINDOW - 0.001)
    refusals.summary()
    assert refusals.note("full", 100.0 + WINDOW)
    assert refusals.ends == 100.0 + 2 * WINDOW


def test_a_window_lasts_until_its_summary_was_made() -> None:
    refusals = Refusals()
    for _ in range(SINGLE + 1):
        refusals.note("full", 100.0)
    assert not refusals.note("full", 100.0 + 2 * WINDOW)
    assert refusals.summary() == {"full": 2}


@given(st.lists(st.tuples(REASONS, st.floats(0, 3)), max_size=100))
def test_every_refusal_is_logged_once_and_few_of_them_by_themselves(knocks: list[tuple[str, float]]) -> None:
    refusals = Refusals()
    now = 1000.0
    reported: collections.Counter[str] = collections.Counter()
    singles: list[float] = []
    for reason, pause in knocks:
        now += pause
        if refusals.unreported and now >= refusals.ends:
            reported.update(refusals.summary())
        if refusals.note(reason, now):
            reported[reason] += 1
            singles.append(now)
        assert sum(now - WINDOW < single for single in singles) <= 2 * SINGLE
    reported.update(refusals.summary())
    assert reported == collections.Counter(reason for reason, _ in knocks)
