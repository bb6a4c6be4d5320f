"""The configuration reader: a process of its own.

YAML, the user database and slow disks stay out of the master that way, and it goes on meanwhile.
"""

from collections.abc import Callable
from functools import partial

from ucspid.errors import EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.master import roles
from ucspid.master.helper import Helper
from ucspid.master.poller import Poller
from ucspid.plan import Plan

TIMEOUT = 30.0
"""Seconds that reading a file may take."""


class Reader(Helper):
    """One reading of the file; done() gets the plan, or the error that says what is wrong."""

    def __init__(self, config: str, poller: Poller, done: Callable[[Plan | UcspidError], None]) -> None:
        """Start reading. Raises ResourceError if no process can be started."""
        self._told = done
        start = partial(roles.start_reader, config)
        super().__init__(start, "a reader of the configuration", poller, TIMEOUT, self._ended)

    def _ended(self, code: int, output: bytes, errors: str) -> None:
        if code == 0:
            self._told(Plan.from_json(output))
        elif code == EXIT_USAGE:
            self._told(ConfigError(errors.splitlines()))
        else:
            reason = errors or f"exit code {code}"
            self._told(ResourceError(f"the configuration could not be read: {reason}"))
