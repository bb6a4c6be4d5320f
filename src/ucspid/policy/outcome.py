"""How a program ended, and what that means: an ordinary end, a fault of the program, or our own doing.

Pure functions of the exit code, as policy/exit_status.py makes it: negative is a signal, None not known.
"""

OK, NONZERO, SIGNAL, ENDED, UNKNOWN = "ok", "nonzero", "signal", "ended", "unknown"
OUTCOMES = (OK, NONZERO, SIGNAL, ENDED, UNKNOWN)
"""Status 0; another status; a signal; either of these after the daemon sent SIGTERM; nobody saw the end."""

CANNOT_EXECUTE = frozenset({126, 127})
"""Exit statuses of shells, env(1) and others for a program that is not there or cannot be executed."""

CLIENT_SIGNALS = frozenset({-13, -14})
"""SIGPIPE: the program wrote to a client that had hung up. SIGALRM: it has waited too long for one."""


def outcome(returncode: int | None, *, asked: bool) -> str:
    """Return which of OUTCOMES an end is; asked: the daemon has sent SIGTERM."""
    if returncode == 0:
        return OK
    if returncode is None:
        return UNKNOWN
    if asked:
        return ENDED
    return NONZERO if returncode > 0 else SIGNAL


def is_fault(returncode: int | None, *, asked: bool) -> bool:
    """Say whether an end is a reason to look at the program or the machine.

    Other exit statuses are not: in this field 1, 100 and 111 are what a program says of a client.
    """
    if asked or returncode is None:
        return False
    return returncode in CANNOT_EXECUTE or (returncode < 0 and returncode not in CLIENT_SIGNALS)
