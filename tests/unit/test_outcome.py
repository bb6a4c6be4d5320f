"""How programs end: what is ordinary, what is a fault, and what the daemon has brought about itself."""

import signal

import pytest

from ucspid.policy.outcome import ENDED, NONZERO, OK, OUTCOMES, SIGNAL, UNKNOWN, is_fault, outcome


@pytest.mark.parametrize(
    ("code", "asked", "how", "fault"),
    [
        (0, False, OK, False),
        (0, True, OK, False),
        (1, False, NONZERO, False),
        (100, False, NONZERO, False),
        (111, False, NONZERO, False),
        (126, False, NONZERO, True),
        (127, False, NONZERO, True),
        (-signal.SIGSEGV, False, SIGNAL, True),
        (-signal.SIGKILL, False, SIGNAL, True),
        (-signal.SIGTERM, False, SIGNAL, True),
        (-40, False, SIGNAL, True),
        (-signal.SIGPIPE, False, SIGNAL, False),
        (-signal.SIGALRM, False, SIGNAL, False),
        (-signal.SIGTERM, True, ENDED, False),
        (-signal.SIGKILL, True, ENDED, False),
        (1, True, ENDED, False),
        (None, False, UNKNOWN, False),
        (None, True, UNKNOWN, False),
    ],
)
def test_an_end_is_counted_and_judged(code: int | None, asked: bool, how: str, fault: bool) -> None:
    assert outcome(code, asked=asked) == how
    assert is_fault(code, asked=asked) == fault


def test_every_exit_code_has_its_outcome() -> None:
    assert {outcome(code, asked=False) for code in range(-64, 256)} < set(OUTCOMES)
