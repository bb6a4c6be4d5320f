"""What no test may do: signal itself, whoever started the tests, or everybody.

kill(2) takes 0 for the caller's process group and -1 for all processes. A pid that a test has read
somewhere may be 0 by mistake, and would then end the whole run without a word.
"""

import os
from collections.abc import Callable


def install() -> None:
    """Refuse, in this process, to signal anything but one process or a group that is not ours."""
    os.kill = _guarded(os.kill)
    os.killpg = _guarded(os.killpg)


def _guarded(kill: Callable[[int, int], None]) -> Callable[[int, int], None]:
    def guarded(pid: int, number: int, /) -> None:
        assert number == 0 or pid > 1, f"signal {number} to {pid}"
        kill(pid, number)

    return guarded
