"""Targets of forward: their form, the order in which they are tried, and when each is."""

from collections import Counter
from socket import AF_INET, AF_INET6

import pytest

from ucspid.forward.race import ATTEMPT_DELAY, Race
from ucspid.forward.targets import alternating, parse, rotated


@pytest.mark.parametrize("text", ["mail1.example:143", "192.0.2.7:1", "[2001:db8::1]:65535", "unix:/run/x:1"])
def test_a_target_is_what_its_text_says(text: str) -> None:
    assert str(parse(text)) == text


def test_each_target_is_the_first_as_often_as_the_others_and_the_rest_follows_around() -> None:
    orders = [rotated("abc", number) for number in range(300)]
    assert set(orders) == {tuple("abc"), tuple("bca"), tuple("cab")}
    assert set(Counter(order[0] for order in orders).values()) == {100}


def test_families_take_turns_from_the_one_that_the_system_prefers() -> None:
    found = [(AF_INET6, "a"), (AF_INET6, "b"), (AF_INET6, "c"), (AF_INET, "d"), (AF_INET, "e")]
    assert [name for _family, name in alternating([(int(family), name) for family, name in found])] == list(
        "adbec"
    )
    assert alternating([]) == []


def test_the_next_address_is_tried_after_a_moment_without_an_answer() -> None:
    race = Race(100.0, 5.0)
    assert race.is_due(100.0)
    race.begun(100.0)
    assert not race.is_due(100.0 + ATTEMPT_DELAY / 2)
    assert race.patience(100.0, more=True) == ATTEMPT_DELAY == 0.25
    assert race.is_due(100.0 + ATTEMPT_DELAY)


def test_the_next_address_is_tried_at_once_when_one_fails() -> None:
    race = Race(0.0, 5.0)
    race.begun(0.0)
    race.begun(ATTEMPT_DELAY)
    assert not race.is_due(ATTEMPT_DELAY)
    race.failed(0.3)
    assert race.is_due(0.3)
    assert race.patience(0.3, more=True) == 0.0


def test_without_further_addresses_it_waits_until_the_time_is_up() -> None:
    race = Race(0.0, 5.0)
    race.begun(0.0)
    assert race.patience(1.0, more=False) == 4.0
    assert not race.is_over(4.9)
    assert race.is_over(5.0)
    assert not race.is_due(5.0)
    assert race.patience(6.0, more=True) == 0.0


def test_time_of_a_look_up_is_not_that_of_attempts() -> None:
    race = Race(0.0, 5.0)
    race.held_up(7.0)
    assert race.is_due(7.0)
    assert race.is_over(12.0)
