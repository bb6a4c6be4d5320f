"""Keys of session tickets: the same everywhere, another in each period, none for another context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.tls.ticket_keys import PERIOD, TicketKeys, TicketSecret

SECRET = TicketSecret(100, b"s" * 32)
START = 100 * PERIOD


@given(st.integers(0, 50), st.integers(0, 50))
def test_it_does_not_matter_by_which_steps_a_period_is_reached(first: int, second: int) -> None:
    at_once = SECRET.at(START + (first + second) * PERIOD)
    assert SECRET.at(START + first * PERIOD).at(START + (first + second) * PERIOD) == at_once
    assert at_once.period == 100 + first + second


def test_the_first_is_of_the_period_that_it_is() -> None:
    first = TicketSecret.first(b"s" * 32, START + 1.5)
    assert first == SECRET == first.at(START + 1.5)


def test_a_secret_says_nothing_of_the_period_before_and_does_not_go_back() -> None:
    later = SECRET.at(START + 3 * PERIOD)
    assert later.at(START) == later
    assert later.key(1) != SECRET.key(1)


def test_each_context_has_a_key_of_its_own_of_the_sizes_that_are_needed() -> None:
    one, two = SECRET.key(1), SECRET.key(2)
    assert not {*one} & {*two}
    assert [len(part) for part in one] == [16, 32, 32]
    assert len({*one}) == 3


@pytest.mark.parametrize(("periods", "opens"), [(0, True), (1, True), (2, False), (9, False)])
def test_tickets_of_the_period_before_are_opened_and_no_older_ones(periods: int, opens: bool) -> None:
    keys = TicketKeys(SECRET)
    old = keys.sealing(7)
    keys.turn(START + periods * PERIOD)
    assert keys.opening(7, old.name) == (old if opens else None)
    assert (keys.sealing(7) == old) == (periods == 0)
    assert keys.opening(8, old.name) is None


def test_processes_that_were_started_in_other_periods_agree() -> None:
    early, late = TicketKeys(SECRET), TicketKeys(SECRET.at(START + 2 * PERIOD))
    early.turn(START + 2 * PERIOD)
    assert early.sealing(1) == late.sealing(1)
