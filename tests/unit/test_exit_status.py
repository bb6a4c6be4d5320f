"""How a process ended: every wait status means something, and those of real processes mean what they say."""

import os

import pytest

from ucspid.policy.exit_status import exit_code, how_ended, in_words

STOPPED = 0x7F


def test_every_wait_status_is_that_of_an_exit_a_signal_or_no_end() -> None:
    codes = set()
    for status in range(0x10000):
        code = exit_code(status)
        codes.add(code)
        if status & 0x7F == STOPPED:
            assert code is None
        elif status & 0x7F == 0:
            assert code == status >> 8
        else:
            assert code == -(status & 0x7F)
    assert all(how_ended(code) and in_words(code) for code in codes)


@pytest.mark.parametrize("status", [-1, -(1 << 31), (1 << 31) - 1, 1 << 40])
def test_a_number_that_is_no_wait_status_raises_nothing(status: int) -> None:
    assert how_ended(exit_code(status))


def test_it_agrees_with_the_standard_library_where_that_has_an_answer() -> None:
    for status in range(0x10000):
        try:
            expected = os.waitstatus_to_exitcode(status)
        except ValueError:
            continue
        assert exit_code(status) == expected


@pytest.mark.parametrize(
    ("code", "fields", "words"),
    [
        (0, {"status": 0}, "exit status 0"),
        (111, {"status": 111}, "exit status 111"),
        (-9, {"signal": "SIGKILL"}, "signal SIGKILL"),
        (-34, {"signal": "SIGRTMIN"}, "signal SIGRTMIN"),
        (-40, {"signal": "40"}, "signal 40"),
        (None, {"status": "unknown"}, "exit status unknown"),
    ],
)
def test_a_signal_has_its_name_or_its_number(code: int | None, fields: dict[str, object], words: str) -> None:
    assert (how_ended(code), in_words(code)) == (fields, words)
