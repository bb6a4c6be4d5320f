"""Upgrades of the daemon's code while it runs: a trial of what is installed now, then execve(2).

Process, descriptors, children, blocked and pending signals and the role of a subreaper stay
through execve(2) (execve(2), signal(7), prctl(2)). Until it succeeds nothing has changed.
"""

import os
import sys
from collections.abc import Callable
from functools import partial

from ucspid.errors import EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.linux.fd_limit import why
from ucspid.master import roles
from ucspid.master.children import Children
from ucspid.master.job import Job, JobOutcome
from ucspid.master.poller import Poller
from ucspid.master.text import first_lines
from ucspid.master.upgrade_state import MasterState
from ucspid.policy.exit_status import in_words

TIMEOUT = 30.0
"""Seconds that a trial may take."""


def start_trial(
    state: MasterState, children: Children, poller: Poller, done: Callable[[UcspidError | None], None]
) -> Job:
    """Try the installed code; done() gets None if it works, else the reason why not.

    Raises ResourceError if no trial can be started.
    """
    try:
        memory = state.to_memory()
    except OSError as problem:
        raise ResourceError(f"no trial: {why(problem)}") from None
    try:
        start = partial(roles.start_trial, memory, state.holdings.others["counters"], state.config)
        return Job(start, "a trial", children, poller, TIMEOUT, lambda outcome: done(_result(outcome)))
    finally:
        os.close(memory)


def _result(outcome: JobOutcome) -> UcspidError | None:
    if outcome.code == 0:
        return None
    lines = first_lines(outcome.errors.splitlines())
    if outcome.code == EXIT_USAGE:
        return ConfigError(lines)
    if outcome.hung_at is not None:
        lines.append(f"no answer within {TIMEOUT:g} s: it hangs at {outcome.hung_at or 'its start'}")
    lines = lines or [in_words(outcome.code)]
    return ResourceError("\n".join(["the installed version does not start:", *lines]))


def execute(state: MasterState) -> ResourceError:
    """Execute the installed code in place of this; return the reason if that fails."""
    descriptors: list[int] = []
    memory = None
    try:
        memory = state.to_memory()
        descriptors = [*state.descriptors(), memory]
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        arguments = [*roles.PYTHON, "-m", "ucspid.master.resume", str(memory)]
        os.execve(sys.executable, arguments, os.environ)  # noqa: S606 - no shell is wanted
    except OSError as problem:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if memory is not None:
            os.close(memory)
        return ResourceError(f"cannot execute {sys.executable}: {problem.strerror}")
