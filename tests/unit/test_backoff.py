from ucspid.policy.backoff import Backoff


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


def test_the_first_failures_are_forgiven() -> None:
    backoff, now, delays = Backoff(1.0, 8.0, 60.0, max_failures=3), 100.0, []
    for _ in range(7):
        delays.append(backoff.failed(now))
        now += delays[-1] + 0.5
    assert delays == [1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 8.0]
    assert [backoff.failed(now + 60.0 + 8.0 + add) for add in (0.0, 2.0, 4.0, 6.0, 8.0)] == [1.0] * 4 + [2.0]
