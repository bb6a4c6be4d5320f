import math
from collections.abc import Hashable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracing import lines_run
from ucspid.plan import Rate
from ucspid.policy.rate import TokenBucket, TokenBuckets


class Naive:
    """A bucket as defined: a number of tokens that grows with time."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.tokens = float(rate.burst)
        self.then = 0.0

    def take(self, now: float) -> bool:
        grown = (now - self.then) * self.rate.count / self.rate.seconds
        self.tokens = min(self.rate.burst, self.tokens + grown)
        self.then = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


# Powers of two, so that neither side rounds and the two can be compared exactly.
rates = st.builds(
    Rate,
    count=st.sampled_from([1, 2, 4]),
    seconds=st.sampled_from([0.5, 1.0, 8.0]),
    burst=st.integers(1, 6),
)
steps = st.integers(0, 40).map(lambda eighths: eighths / 8)


@given(rates, st.lists(steps, max_size=60))
def test_a_bucket_gives_what_the_book_says(rate: Rate, gaps: list[float]) -> None:
    bucket, naive, now = TokenBucket(rate), Naive(rate), 0.0
    for gap in gaps:
        now += gap
        assert bucket.take(now) == naive.take(now)


@given(rates, st.lists(steps, max_size=60))
def test_wait_is_exact(rate: Rate, gaps: list[float]) -> None:
    bucket, now = TokenBucket(rate), 0.0
    for gap in gaps:
        now += gap
        wait = bucket.wait(now)
        if wait:
            assert bucket.wait(now + wait - 1 / 64) > 0.0
            assert not bucket.take(now + wait - 1 / 64)
            assert bucket.wait(now + wait) == 0.0
        now += wait
        assert bucket.take(now)


@pytest.mark.parametrize("now", [0.1, 1e5 + 0.1, 1e7 + 0.1])
@pytest.mark.parametrize("count", [3, 7, 10, 1000])
def test_rounding_neither_takes_nor_gives_a_token(now: float, count: int) -> None:
    rate = Rate(count=count, seconds=1.0, burst=count)
    bucket, buckets = TokenBucket(rate), TokenBuckets(rate, 10)
    assert [bucket.take(now) for _ in range(count + 1)] == [True] * count + [False]
    assert [buckets.take("a", now) for _ in range(count + 1)] == [True] * count + [False]
    assert bucket.wait(now + bucket.wait(now)) == 0.0


keys = st.sampled_from("abcdef")


@given(rates, st.lists(st.tuples(keys, steps), max_size=80))
def test_each_of_many_keys_has_a_bucket_of_its_own(rate: Rate, takes: list[tuple[str, float]]) -> None:
    buckets, naive, now = TokenBuckets(rate, 6), {key: Naive(rate) for key in "abcdef"}, 0.0
    for key, gap in takes:
        now += gap
        ready = buckets.ready(key, now)
        assert ready == naive[key].take(now) == buckets.take(key, now)


def known(buckets: TokenBuckets) -> dict[Hashable, float]:
    """Return all buckets of which something is known, and when they will be full."""
    return dict(buckets.to_state(-math.inf))


@given(rates, st.integers(1, 4), st.lists(st.tuples(keys, steps), max_size=80))
def test_full_tables_forget_what_had_least_to_be_remembered(
    rate: Rate, capacity: int, takes: list[tuple[str, float]]
) -> None:
    buckets, now = TokenBuckets(rate, capacity), 0.0
    step = rate.burst * rate.seconds / rate.count / 32
    for key, gap in takes:
        now += gap
        before = known(buckets)
        taken = buckets.take(key, now)
        after = known(buckets)
        assert len(buckets) == len(after) <= capacity
        if not taken:
            assert after == before
            continue
        assert key in after
        forgotten = before.keys() - after.keys() - {key}
        kept = before.keys() & after.keys() - {key}
        live = [before[gone] for gone in forgotten if before[gone] > now]
        assert len(live) <= 1
        assert all(before[other] > full_at - step for other in kept for full_at in live)


def test_addresses_used_once_do_not_wash_away_a_used_up_bucket() -> None:
    buckets = TokenBuckets(Rate(count=10, seconds=10.0, burst=10), 100)
    while buckets.take("flooder", 0.0):
        pass
    assert all(buckets.take(stranger, 0.001 * stranger) for stranger in range(900))
    assert not buckets.ready("flooder", 0.9)
    assert buckets.ready("flooder", 1.0)
    assert len(buckets) == 100


def test_a_refilled_bucket_is_forgotten_before_one_in_use() -> None:
    buckets = TokenBuckets(Rate(count=1, seconds=1.0, burst=5), 3)
    assert all(buckets.take("busy", 0.0) for _ in range(5))
    assert buckets.take("b", 0.0)
    assert buckets.take("c", 0.0)
    assert buckets.take("d", 2.0)
    assert known(buckets).keys() == {"busy", "d"}


def test_more_addresses_than_capacity_in_turns_are_hardly_held_back() -> None:
    def granted(capacity: int) -> int:
        buckets = TokenBuckets(Rate(count=1, seconds=100.0, burst=1), capacity)
        return sum(buckets.take(turn % 40, turn / 10) for turn in range(400))

    assert granted(capacity=40) == 40
    assert granted(capacity=10) > 250


def test_no_call_sweeps_the_table() -> None:
    rate = Rate(count=10, seconds=1.0, burst=10)
    small, large = TokenBuckets(rate, 10), TokenBuckets(rate, 10_000)
    for buckets, size in ((small, 10), (large, 10_000)):
        for key in range(size):
            buckets.take(key, key / size / 20)
    in_use = [lines_run(partial(buckets.take, "new", 0.06)) for buckets in (small, large)]
    refilled = [lines_run(partial(buckets.take, "newer", 1e6)) for buckets in (small, large)]
    assert max(in_use + refilled) < 100
    assert len(large) == 9_999


def test_a_single_client_leaves_nothing_behind() -> None:
    buckets = TokenBuckets(Rate(count=32, seconds=1.0, burst=32), 10)
    for tick in range(5_000):
        assert buckets.take("a", tick / 16)
    assert len(buckets) == 1
    assert len(buckets._slots) == len(buckets._order) <= 2


def test_refilled_buckets_go_as_others_come() -> None:
    buckets = TokenBuckets(Rate(count=1, seconds=1.0, burst=4), 1_000)
    for key in range(500):
        buckets.take(key, 0.0)
    for key in range(500, 1_100):
        buckets.take(key, float(key))
    assert len(buckets) <= 3
    assert len(buckets._slots) == len(buckets._order) <= 40
