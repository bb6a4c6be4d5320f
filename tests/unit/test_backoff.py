from hypothesis import given
from hypothesis import strategies as st

from ucspid.policy.backoff import FIRST_PAUSE, GRACE, LONGEST_PAUSE, THRESHOLD, Backoff, Throttle


def test_delays_double_up_to_the_longest() -> None:
    backoff, now, delays = Backoff(1.0, 10.0, 60.0), 100.0, []
    for _ in range(6):
        delays.append(backoff.failed(now))
        now += delays[-1] + 0.5
    assert delays == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_calm_time_is_counted_from_the_restart() -> None:
    backoff = Backoff(1.0, 64.0, 10.0)
    now = 0.0
    for expected in (1.0, 2.0, 4.0, 8.0, 16.0):
        assert backoff.failed(now) == expected
        now += expected + 9.75
    assert backoff.failed(now) == 32.0
    assert backoff.failed(now + 32.0 + 10.0) == 1.0
    assert backoff.failed(now + 32.0 + 10.0 + 1.0) == 2.0


def test_the_first_failures_are_borne_with_patience() -> None:
    backoff, now, delays = Backoff(1.0, 8.0, 60.0, patience=3), 100.0, []
    for _ in range(7):
        delays.append(backoff.failed(now))
        now += delays[-1] + 0.5
    assert delays == [1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 8.0]
    assert [backoff.failed(now + 60.0 + 8.0 + add) for add in (0.0, 2.0, 4.0, 6.0, 8.0)] == [1.0] * 4 + [2.0]


def throttled(now: float = 0.0) -> Throttle:
    """Return a throttle whose first pause began at now."""
    throttle = Throttle()
    pauses = [throttle.cannot_start(now) for _ in range(THRESHOLD)]
    assert pauses == [None] * (THRESHOLD - 1) + [FIRST_PAUSE]
    return throttle


def test_a_streak_of_distinct_clients_pauses() -> None:
    throttle = Throttle()
    for client in range(THRESHOLD - 1):
        assert throttle.started_badly(str(client), 10.0) is None
        assert not throttle.throttled
        assert throttle.wait(10.0) == 0.0
    assert throttle.started_badly("last", 11.0) == FIRST_PAUSE
    assert throttle.throttled
    assert throttle.wait(11.25) == FIRST_PAUSE - 0.25
    assert throttle.wait(11.0 + FIRST_PAUSE) == throttle.wait(99.0) == 0.0


def test_one_client_alone_never_pauses() -> None:
    throttle = Throttle()
    assert all(throttle.started_badly("same", float(now)) is None for now in range(100))
    assert not throttle.throttled


def test_errors_of_the_system_always_count_and_add_up_with_clients() -> None:
    throttle = Throttle()
    assert throttle.started_badly("a", 0.0) is None
    assert [throttle.cannot_start(1.0) for _ in range(THRESHOLD - 2)] == [None] * (THRESHOLD - 2)
    assert throttle.started_badly("b", 2.0) == FIRST_PAUSE


def test_a_good_end_breaks_the_streak() -> None:
    throttle = Throttle()
    for round_ in range(10):
        now = 10.0 * round_
        assert all(throttle.started_badly(str(client), now) is None for client in range(THRESHOLD - 1))
        assert not throttle.ended_well(started=now + 1.0)
    assert not throttle.throttled


def test_clients_of_a_broken_streak_count_again() -> None:
    throttle = Throttle()
    assert throttle.started_badly("0", 1.0) is None
    assert not throttle.ended_well(started=2.0)
    assert all(throttle.started_badly(str(client), 3.0) is None for client in range(THRESHOLD - 1))
    assert throttle.started_badly("last", 3.0) == FIRST_PAUSE


def test_what_was_started_within_the_streak_breaks_it() -> None:
    throttle = Throttle()
    assert throttle.started_badly("a", 10.0) is None
    assert throttle.started_badly("b", 20.0) is None
    assert not throttle.ended_well(started=15.0)
    assert [throttle.cannot_start(21.0) for _ in range(THRESHOLD - 1)] == [None] * (THRESHOLD - 1)


def test_an_end_of_what_was_started_before_the_streak_proves_nothing() -> None:
    throttle = Throttle()
    for client in range(THRESHOLD - 1):
        assert throttle.started_badly(str(client), 10.0 + client) is None
        assert not throttle.ended_well(started=9.0)
    assert throttle.started_badly("last", 20.0) is not None


def test_a_good_end_without_failures_is_nothing_special() -> None:
    assert not Throttle().ended_well(started=0.0)
    assert not Throttle().starting(0.0)


def test_each_failed_try_doubles_the_pause_up_to_the_longest() -> None:
    throttle, now, pause = throttled(0.0), 0.0, FIRST_PAUSE
    for _ in range(10):
        now += pause
        assert throttle.wait(now) == 0.0
        assert not throttle.starting(now)
        now += 0.25
        pause = min(2 * pause, LONGEST_PAUSE)
        assert throttle.started_badly("same", now) == pause
        assert throttle.wait(now) == pause
    assert pause == LONGEST_PAUSE
    throttle.starting(now + pause)
    assert throttle.cannot_start(now + pause) == LONGEST_PAUSE


def test_failures_of_connections_under_way_do_not_lengthen_the_pause() -> None:
    throttle = throttled(0.0)
    assert not throttle.starting(0.25)
    assert throttle.started_badly("a", 0.5) is None
    assert throttle.cannot_start(0.5) is None
    assert throttle.started_badly("b", FIRST_PAUSE + 5.0) is None
    assert throttle.wait(0.5) == FIRST_PAUSE - 0.5


def test_one_connection_is_tried_after_a_pause() -> None:
    throttle = throttled(0.0)
    assert not throttle.starting(FIRST_PAUSE)
    assert throttle.wait(FIRST_PAUSE + 0.25) == GRACE - 0.25
    assert not throttle.starting(FIRST_PAUSE + 0.5)
    assert throttle.wait(FIRST_PAUSE + 0.5) == GRACE - 0.5


def test_a_good_end_after_the_pause_ends_the_throttling_once() -> None:
    throttle = throttled(0.0)
    throttle.starting(FIRST_PAUSE)
    assert throttle.ended_well(started=FIRST_PAUSE)
    assert not throttle.throttled
    assert throttle.wait(FIRST_PAUSE) == 0.0
    assert not throttle.ended_well(started=FIRST_PAUSE)


def test_a_good_end_of_a_program_from_before_the_pause_is_ignored() -> None:
    throttle = throttled(0.0)
    assert not throttle.ended_well(started=-5.0)
    assert not throttle.ended_well(started=FIRST_PAUSE - 0.5)
    assert throttle.throttled


def test_a_try_that_lives_through_its_grace_ends_the_throttling_at_the_next_start() -> None:
    throttle = throttled(0.0)
    assert not throttle.starting(FIRST_PAUSE)
    assert throttle.wait(FIRST_PAUSE + GRACE) == 0.0
    assert throttle.starting(FIRST_PAUSE + GRACE)
    assert not throttle.throttled
    assert not throttle.starting(FIRST_PAUSE + GRACE)


def test_a_late_failure_of_the_try_still_counts() -> None:
    throttle = throttled(0.0)
    throttle.starting(FIRST_PAUSE)
    assert throttle.cannot_start(FIRST_PAUSE + 2 * GRACE) == 2 * FIRST_PAUSE


def test_after_the_throttling_all_begins_anew() -> None:
    throttle = throttled(0.0)
    throttle.starting(FIRST_PAUSE)
    throttle.ended_well(started=FIRST_PAUSE)
    for client in range(THRESHOLD - 1):
        assert throttle.started_badly(str(client), 9.0) is None
    assert throttle.started_badly("last", 9.0) == FIRST_PAUSE


events = st.sampled_from(["a", "b", "c", "d", "cannot start", "good end", "start"])


@given(st.lists(st.tuples(events, st.floats(0.0, 90.0)), max_size=60))
def test_pauses_stay_within_bounds_and_always_end(history: list[tuple[str, float]]) -> None:
    throttle, now = Throttle(), 0.0
    for event, gap in history:
        now += gap
        before = throttle.throttled
        over, pause = False, None
        if event == "start":
            over = throttle.starting(now)
        elif event == "good end":
            over = throttle.ended_well(started=now)
        elif event == "cannot start":
            pause = throttle.cannot_start(now)
        else:
            pause = throttle.started_badly(event, now)
        assert over == (before and not throttle.throttled)
        assert pause is None or FIRST_PAUSE <= pause <= LONGEST_PAUSE
        assert 0.0 <= throttle.wait(now) <= LONGEST_PAUSE
        assert throttle.wait(now + LONGEST_PAUSE) == 0.0
        assert len(throttle._clients) <= THRESHOLD


@given(st.lists(st.sampled_from("abcd"), max_size=100))
def test_fewer_clients_than_the_threshold_cannot_stop_a_service(clients: list[str]) -> None:
    throttle = Throttle()
    assert all(throttle.started_badly(str(client), float(now)) is None for now, client in enumerate(clients))
