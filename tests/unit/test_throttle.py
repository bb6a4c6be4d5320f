"""A service whose program cannot be started is slowed, and never shut."""

from hypothesis import given
from hypothesis import strategies as st

from ucspid.plan import Throttling
from ucspid.policy.throttle import GRACE, MAX_FAILURES, Throttle

SETTINGS = Throttling(failures=3, interval=2.0)


def throttled(now: float = 10.0) -> Throttle:
    """Return a throttle that has just begun to slow."""
    throttle = Throttle(SETTINGS)
    assert [throttle.failed(now) for _ in range(3)] == [False, False, True]
    return throttle


def test_failures_in_a_row_slow_a_service() -> None:
    throttle = throttled()
    assert throttle.throttled
    assert throttle.wait(10.0) == 2.0
    assert throttle.wait(11.5) == 0.5
    assert throttle.wait(12.0) == 0.0


def test_a_slowed_service_goes_on_with_a_start_in_each_interval() -> None:
    throttle, now = throttled(), 10.0
    for _ in range(100):
        now += throttle.wait(now)
        assert throttle.wait(now) == 0.0
        assert not throttle.starting(now)
        assert throttle.wait(now) == 2.0
        assert not throttle.failed(now + 0.1), "it says only once that it is slowed"
    assert now == 10.0 + 100 * 2.0


def test_the_first_program_that_ends_was_started_and_ends_the_throttling() -> None:
    throttle = throttled()
    assert not throttle.starting(12.0)
    assert throttle.ended(12.0)
    assert not throttle.throttled
    assert throttle.wait(12.0) == 0.0
    assert not throttle.ended(12.0), "it says so once"


def test_a_program_that_still_runs_after_its_grace_ends_the_throttling() -> None:
    throttle = throttled()
    throttle.starting(12.0)
    throttle.started(12.0)
    assert throttle.wait(12.5) == 1.5, "it may not have executed yet, and fail"
    assert throttle.wait(12.0 + GRACE) == 0.0
    assert throttle.starting(12.0 + GRACE)
    assert not throttle.throttled


def test_a_start_that_fails_after_it_was_reported_counts() -> None:
    throttle = throttled()
    throttle.starting(12.0)
    throttle.started(12.0)
    throttle.failed(12.1)
    assert throttle.wait(12.0 + GRACE) == 1.0
    assert throttle.throttled


def test_a_program_from_before_the_failures_proves_nothing() -> None:
    throttle = throttled(10.0)
    assert not throttle.ended(9.0)
    assert throttle.throttled


def test_a_success_between_breaks_the_row() -> None:
    throttle = Throttle(SETTINGS)
    for now in range(0, 100, 10):
        assert not throttle.failed(now)
        assert not throttle.failed(now + 1.0)
        assert not throttle.ended(now + 2.0)
    assert not throttle.throttled


def test_a_reload_ends_the_throttling() -> None:
    throttle = throttled()
    throttle.change(SETTINGS)
    assert throttle.wait(10.0) == 0.0
    assert not throttle.throttled


def test_no_settings_never_slow() -> None:
    throttle = Throttle(None)
    assert not any(throttle.failed(float(now)) for now in range(100))
    assert (throttle.wait(100.0), throttle.throttled, throttle.interval) == (0.0, False, 0.0)


def test_failures_are_counted_up_to_a_bound() -> None:
    throttle = Throttle(SETTINGS)
    for now in range(MAX_FAILURES + 10):
        throttle.failed(float(now))
    assert throttle.to_state()[0] == MAX_FAILURES


gaps = st.integers(0, 720).map(lambda eighths: eighths / 8)
"""Seconds, such as add up without rounding."""
events = st.sampled_from(["failed", "ended", "start", "started"])
gaps = st.integers(0, 90 * 1024).map(lambda parts: parts / 1024)
"""Seconds: binary fractions, so that sums of them are exact."""


@given(st.lists(st.tuples(events, gaps), max_size=60))
def test_whatever_happens_a_start_is_tried_within_the_interval(history: list[tuple[str, float]]) -> None:
    throttle, now = Throttle(SETTINGS), 0.0
    for event, gap in history:
        now += gap
        if event == "failed":
            throttle.failed(now)
        elif event == "ended":
            throttle.ended(now)
        elif event == "started":
            throttle.started(now)
        elif throttle.wait(now) == 0.0:
            throttle.starting(now)
        assert 0.0 <= throttle.wait(now) <= SETTINGS.interval
        assert throttle.wait(now + SETTINGS.interval) == 0.0
