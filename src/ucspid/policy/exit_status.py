"""How a process ended, by its wait status: for every process of the daemon, its log and its messages.

A status may come from a process that is not trusted, so that every number has a meaning here.
"""

from signal import Signals

_SIGNAL = 0x7F
"""The bits of a wait status that hold the signal; with all of them set the process has not ended."""


def exit_code(status: int) -> int | None:
    """Return the exit status, a negative signal number, or None where the status is that of no end."""
    number = status & _SIGNAL
    if number == _SIGNAL:
        return None
    return -number if number else (status >> 8) & 0xFF


def how_ended(code: int | None) -> dict[str, int | str]:
    """Return the field of an event that says how a process ended: status, or signal by its name."""
    if code is None:
        return {"status": "unknown"}
    if code >= 0:
        return {"status": code}
    return {"signal": signal_name(-code)}


def in_words(code: int | None) -> str:
    """Return how a process ended as a part of a sentence."""
    ((what, which),) = how_ended(code).items()
    return f"{'exit status' if what == 'status' else what} {which}"


def signal_name(number: int) -> str:
    """Return a signal's name; its number where it has none, as most real-time signals."""
    try:
        return Signals(number).name
    except ValueError:
        return str(number)
