"""How long things take, counted by bounds."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.policy.histogram import DURATION_BOUNDS, LATENCY_BOUNDS, Histogram, Timings, quantile

VALUES = st.lists(st.floats(0.0, 20.0), min_size=1, max_size=50)


@given(VALUES)
def test_counts_are_those_of_a_naive_model(values: list[float]) -> None:
    histogram = Histogram(LATENCY_BOUNDS)
    for value in values:
        histogram.note(value)
    state = histogram.to_state()
    pairs = itertools.pairwise((-1.0, *LATENCY_BOUNDS, math.inf))
    assert state["counts"] == [sum(low < value <= high for value in values) for low, high in pairs]
    assert state["sum"] == pytest.approx(sum(values), abs=1e-5)


@given(VALUES, st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_the_bounds_of_the_true_one(values: list[float], share: float) -> None:
    histogram = Histogram(LATENCY_BOUNDS)
    for value in values:
        histogram.note(value)
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    found = quantile(histogram.to_state(), share)
    assert found is not None
    edges = (0.0, *LATENCY_BOUNDS)
    low = max((edge for edge in edges if edge < true), default=0.0)
    high = min((bound for bound in LATENCY_BOUNDS if bound >= true), default=LATENCY_BOUNDS[-1])
    assert low <= found <= high + 1e-9 or found == low == high


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile(Histogram(DURATION_BOUNDS).to_state(), 0.5) is None


def test_timings_say_what_was_measured() -> None:
    timings = Timings()
    timings.started(1.0, 1.002, 1.3)
    timings.served(0.5, (1_000_000, 500_000, 1))
    timings.served(0.5, None)
    state = timings.to_state()
    assert state["cpu"] == 1.5
    assert state["queue_wait"]["sum"] == pytest.approx(0.002)
    assert state["start"]["sum"] == pytest.approx(0.3)
    assert sum(state["queue_wait"]["counts"]) == sum(state["start"]["counts"]) == 1
    assert sum(state["duration"]["counts"]) == 2
