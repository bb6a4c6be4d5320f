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
    grouped = _send_to_group(process, number)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not grouped or os.getpgid(process) != process:
            os.kill(process, number)


def _send_to_group(leader: int, number: int) -> bool:
    """Return whether there was such a group: a child that is being started may lead it a moment later."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
