"""Signals for a program and all that it has started, as far as that stays in its process group.

Imported by launchers.
"""

import contextlib
import os


def send_signal(process: int, number: int) -> None:
    """Signal the group that a child of this process was made to lead, and the child if its group is another.

    The child has not been reaped, so that its number is nobody else's. Processes that this one may not
    signal, setuid ones say, are passed over: whoever waits for their end sees that they go on.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, number)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process) != process:
            os.kill(process, number)
