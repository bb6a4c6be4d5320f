"""The configuration reader: a process of its own.

YAML, the user database and slow disks stay out of the master that way, and it goes on meanwhile.
"""

from collections.abc import Callable
from functools import partial

from ucspid.errors import EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.master import roles
from ucspid.master.children import Children
from ucspid.master.job import Job, JobOutcome
from ucspid.master.poller import Poller
from ucspid.plan import Plan
from ucspid.policy.exit_status import in_words

TIMEOUT = 30.0
"""Seconds that reading a file may take."""

ReadingDone = Callable[[Plan | UcspidError], None]


def read(config: str, children: Children, poller: Poller, done: ReadingDone) -> Job:
    """Begin to read the file; done() gets the plan, or the error that says what is wrong.

    Raises ResourceError if no process can be started.
    """
    return Job(
        partial(roles.start_reader, config),
        "a reader of the configuration",
        children,
        poller,
        TIMEOUT,
        lambda outcome: done(_result(outcome)),
    )


def _result(outcome: JobOutcome) -> Plan | UcspidError:
    if outcome.hung_at is not None:
        where = f": it hangs at {outcome.hung_at}" if outcome.hung_at else ""
        return ResourceError(f"the configuration could not be read within {TIMEOUT:g} s{where}")
    if outcome.code == EXIT_USAGE:
        return ConfigError(outcome.errors.splitlines())
    if outcome.code != 0:
        reason = outcome.errors or in_words(outcome.code)
        return ResourceError(f"the configuration could not be read: {reason}")
    try:
        return Plan.from_json(outcome.output)
    except (ValueError, LookupError, TypeError, AttributeError) as problem:
        return ResourceError(
            f"the configuration could not be read: the reader returned no valid plan ({problem})"
        )
