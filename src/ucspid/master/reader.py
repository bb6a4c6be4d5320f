"""The configuration reader: a process of its own.

YAML, the user database and slow disks stay out of the master that way, and it goes on meanwhile.
"""

import os
from collections.abc import Callable
from functools import partial

from ucspid.errors import EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.linux.fd_limit import why
from ucspid.master import roles
from ucspid.master.children import Children
from ucspid.master.job import Job, JobOutcome
from ucspid.master.poller import Poller
from ucspid.plan import Plan
from ucspid.policy.exit_status import in_words

TIMEOUT = 30.0
"""Seconds that reading a file may take."""

ReadingDone = Callable[[tuple[Plan, int] | UcspidError], None]
"""Takes the plan, and a descriptor of memory with its certificates, which is to be closed; or the error."""


class ConfigReading:
    """A reader at work; done() gets what it has found."""

    def __init__(self, config: str, children: Children, poller: Poller, done: ReadingDone) -> None:
        """Begin to read the file. Raises ResourceError if no process can be started."""
        self._done = done
        self._material = new_material()
        try:
            self._job = Job(
                partial(roles.start_reader, config, self._material),
                "a reader of the configuration",
                children,
                poller,
                TIMEOUT,
                self._read,
            )
        except ResourceError:
            os.close(self._material)
            raise

    def cancel(self) -> None:
        """Kill the reader, unless it is done; done() is not called."""
        if self._material >= 0:
            self._job.cancel()
            self._close()

    def _read(self, outcome: JobOutcome) -> None:
        result = _result(outcome)
        if isinstance(result, UcspidError):
            self._close()
            self._done(result)
        else:
            material, self._material = self._material, -1
            self._done((result, material))

    def _close(self) -> None:
        os.close(self._material)
        self._material = -1


def new_material() -> int:
    """Return the descriptor of memory for certificates and keys. Raises ResourceError.

    The master passes it on and does not look into it.
    """
    try:
        return os.memfd_create("ucspid-certificates", os.MFD_CLOEXEC)
    except OSError as problem:
        raise ResourceError(f"cannot allocate memory for certificates: {why(problem)}") from None


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
