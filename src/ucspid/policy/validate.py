"""Checks of values that another process says, before they are believed.

What one event loop hands over to the next has been in the hands of the process that meets the
network, so that its successor takes nothing of it unseen.
"""

from collections.abc import Collection
from typing import Any


def number(value: Any, least: float, most: float) -> float:
    """Return the value as a float. Raises ValueError if it is no number from least to most, both finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is not a number from {least} to {most}")
    return float(value)


def whole(value: Any, least: int, most: int) -> int:
    """Return the value. Raises ValueError if it is no whole number from least to most."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is not a whole number from {least} to {most}")
    return value


def items(value: Any, most: int) -> list[Any]:
    """Return the value. Raises ValueError if it is no list of at most so many."""
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{value!r:.40} is not a list of at most {most}")
    return value


def row(value: Any, length: int) -> list[Any]:
    """Return the value. Raises ValueError if it is no list of this length."""
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"{value!r:.40} is not a list of {length}")
    return value


def members(value: Any, *names: str) -> list[Any]:
    """Return what an object has under these names. Raises ValueError if it is none or lacks one."""
    if not isinstance(value, dict) or not value.keys() >= set(names):
        raise ValueError(f"{value!r:.40} is not an object with {', '.join(names)}")
    return [value[name] for name in names]


def text(value: Any, most: int) -> str:
    """Return the value. Raises ValueError if it is no text of at most so many characters that all print."""
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise ValueError(f"{value!r:.40} is not text of at most {most} characters")
    return value


def one_of(value: Any, allowed: Collection[str]) -> str:
    """Return the value. Raises ValueError if it is none of these texts."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{value!r:.40} is none of {', '.join(allowed)}")
    return value
