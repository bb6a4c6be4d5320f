"""Doing something as another user, which only root can."""

import os
from collections.abc import Callable, Sequence

NOBODY = 65534


def as_other(group: int, groups: Sequence[int], act: Callable[[], str]) -> str:
    """Return what act() returns in a process of nobody's, with these groups; or the text of what it raises.

    The process is a fork: others can often not execute the interpreter of the tests.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setresgid(group, group, group)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            said = act()
        except BaseException as problem:  # noqa: BLE001 - for the parent to see
            said = f"{type(problem).__name__}: {problem}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said
