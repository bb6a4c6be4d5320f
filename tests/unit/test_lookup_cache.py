"""The cache and the breaker, with times of the test's choice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tiers import examples
from ucspid.lookup.cache import TEST_AGAIN, Breaker, Cache, lifetime

CAPACITY = 3


@pytest.mark.parametrize(("ttl", "seconds"), [(0, 1), (1, 1), (300, 300), (3600, 3600), (2**31, 3600)])
def test_times_to_live_have_bounds(ttl: int, seconds: float) -> None:
    assert lifetime(ttl) == seconds


def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    cache: Cache[str, str] = Cache(CAPACITY)
    cache.put("a", "answer", 10.0, 100.0)
    assert cache.get("a", 109.9) == "answer"
    assert cache.get("a", 110.0) is None
    assert len(cache) == 0


class Model(RuleBasedStateMachine):
    """The cache against a list of all that it holds, the least recently used first."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Cache[int, int] = Cache(CAPACITY)
        self.held: list[tuple[int, int, float]] = []
        self.now = 0.0

    @rule(seconds=st.floats(0.0, 5.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.integers(0, 5), value=st.integers(), seconds=st.floats(1.0, 10.0))
    def put(self, key: int, value: int, seconds: float) -> None:
        self.cache.put(key, value, seconds, self.now)
        self.held = [item for item in self.held if item[0] != key]
        self.held = [*self.held, (key, value, self.now + seconds)][-CAPACITY:]

    @rule(key=st.integers(0, 5))
    def get(self, key: int) -> None:
        expected = None
        for item in [item for item in self.held if item[0] == key]:
            self.held.remove(item)
            if self.now < item[2]:
                expected = item[1]
                self.held.append(item)
        assert self.cache.get(key, self.now) == expected

    @invariant()
    def bounded(self) -> None:
        assert len(self.cache) == len(self.held) <= CAPACITY


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=examples(40))


def test_a_server_is_dead_when_it_does_not_answer_the_test_either() -> None:
    breaker = Breaker()
    assert not breaker.test_is_due(0.0)
    breaker.timed_out()
    assert not breaker.dead
    assert breaker.test_is_due(1.0)
    assert not breaker.test_is_due(1.0)  # there is one
    breaker.test_ended(3.0, answered=False)
    assert breaker.dead


def test_a_question_without_an_answer_is_not_enough() -> None:
    breaker = Breaker()
    breaker.timed_out()
    assert breaker.test_is_due(1.0)
    breaker.test_ended(3.0, answered=True)
    assert not breaker.dead
    assert not breaker.test_is_due(100.0)


def test_an_answer_while_the_test_runs_is_enough() -> None:
    breaker = Breaker()
    breaker.timed_out()
    assert breaker.test_is_due(1.0)
    breaker.answered()
    breaker.test_ended(3.0, answered=False)
    assert not breaker.dead


def dead_since(now: float) -> Breaker:
    breaker = Breaker()
    breaker.timed_out()
    assert breaker.test_is_due(now)
    breaker.test_ended(now, answered=False)
    return breaker


def test_a_dead_server_is_tested_now_and_then() -> None:
    breaker = dead_since(3.0)
    assert not breaker.test_is_due(3.0 + TEST_AGAIN - 0.1)
    assert breaker.test_is_due(3.0 + TEST_AGAIN)
    breaker.test_ended(20.0, answered=False)
    assert breaker.dead
    assert not breaker.test_is_due(20.0 + TEST_AGAIN - 0.1)
    assert breaker.test_is_due(20.0 + TEST_AGAIN)
    breaker.test_ended(40.0, answered=True)
    assert not breaker.dead


def test_a_late_answer_brings_a_server_back_to_life() -> None:
    breaker = dead_since(3.0)
    breaker.answered()
    assert not breaker.dead
    breaker.timed_out()
    assert breaker.test_is_due(3.1)


@given(st.lists(st.sampled_from(["answered", "timed out", "test", "test failed", "test answered"])))
def test_a_server_that_has_just_answered_is_never_dead(events: list[str]) -> None:
    breaker, testing = Breaker(), False
    for now, event in enumerate(events):
        if event == "answered":
            breaker.answered()
        elif event == "timed out":
            breaker.timed_out()
        elif event == "test":
            testing = breaker.test_is_due(now) or testing
        elif testing:
            testing = False
            breaker.test_ended(now, answered=event == "test answered")
        if event == "answered":
            assert not breaker.dead
        assert not (testing and breaker.test_is_due(now))
