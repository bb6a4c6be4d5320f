"""New variables of rules files, allowed while a plan is in force: the configuration file is not read for it.

The event loop says which service's rules file sets variables that launchers do not know. What it
would call them does not count, as it may have been subverted: a process with the loop's rights
reads the file, and launchers are sent what that has found, before the loop is.
"""

import json
import os
import time
from collections.abc import Iterable
from functools import partial

from ucspid.errors import ConfigError, ResourceError, UcspidError
from ucspid.ipc.orders import AllowVariables
from ucspid.linux.fd_limit import why
from ucspid.master import roles
from ucspid.master.children import Children
from ucspid.master.holdings import Holdings
from ucspid.master.job import Job, JobOutcome
from ucspid.master.loop_supervisor import LoopSupervisor
from ucspid.master.poller import Poller, Timer
from ucspid.master.text import shortened
from ucspid.plan import RulesFile
from ucspid.policy.exit_status import in_words

TIMEOUT = 4.0
"""Seconds that reading a file may take: the loop waits for one more."""

PAUSE = 0.2
"""Seconds from the begin of one reading to that of the next, at least."""


class RuleVariables:
    """Reads one file at a time; others wait, each once."""

    def __init__(self, held: Holdings, loop: LoopSupervisor, children: Children, poller: Poller) -> None:
        """Begin with none."""
        self._held = held
        self._loop = loop
        self._children = children
        self._poller = poller
        self._wanted: dict[RulesFile, None] = {}
        self._reading: Job | None = None
        self._pause: Timer | None = None
        self._began = -PAUSE

    def want(self, service: int) -> None:
        """Have the variables allowed that the rules file of a service sets, which is given by its number."""
        file = self._held.rules_file(service)
        if file is not None and not self._loop.draining:
            self._wanted[file] = None
            self._go_on()

    def cancel(self) -> None:
        """Read nothing more: the daemon stops."""
        self._wanted.clear()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _go_on(self) -> None:
        if self._reading is not None or self._pause is not None or not self._wanted:
            return
        wait = self._began + PAUSE - time.monotonic()
        if wait > 0:
            self._pause = self._poller.call_in(wait, self._rested)
            return
        self._began = time.monotonic()
        file = next(iter(self._wanted))
        del self._wanted[file]
        try:
            self._reading = self._read(file)
        except ResourceError as problem:
            self._refuse(file, str(problem))
            self._go_on()

    def _rested(self) -> None:
        self._pause = None
        self._go_on()

    def _read(self, file: RulesFile) -> Job:
        assert self._held.plan is not None
        start = partial(roles.start_rules_reader, file, self._held.plan)
        done = partial(self._done, file)
        return Job(start, "a reader of rules", self._children, self._poller, TIMEOUT, done)

    def _done(self, file: RulesFile, outcome: JobOutcome) -> None:
        self._reading = None
        try:
            allowed = self._held.allow_variables(file, _names(outcome))
        except UcspidError as problem:
            self._refuse(file, shortened(problem))
        else:
            self._allow(file, allowed)
        self._go_on()

    def _allow(self, file: RulesFile, names: Iterable[str]) -> None:
        try:
            with os.fdopen(os.memfd_create("ucspid-variables", os.MFD_CLOEXEC), "w") as memory:
                json.dump(list(names), memory)
                memory.flush()
                self._loop.send(_order(file), (memory.fileno(),))
        except OSError as problem:
            self._refuse(file, f"cannot allocate memory for their names: {why(problem)}")

    def _refuse(self, file: RulesFile, reason: str) -> None:
        self._loop.send(_order(file, reason))


def _order(file: RulesFile, reason: str | None = None) -> AllowVariables:
    return AllowVariables(path=file.path, kind=file.kind, unusable=file.unusable, reason=reason)


def _names(outcome: JobOutcome) -> list[str]:
    """Return the names that a reader has found. Raises UcspidError, ConfigError if the file is wrong."""
    if outcome.hung_at is not None:
        raise ResourceError(f"the file could not be read within {TIMEOUT:g} s")
    if outcome.code != 0:
        raise ConfigError((outcome.errors or in_words(outcome.code)).splitlines())
    try:
        names = json.loads(outcome.output)
    except ValueError as problem:
        raise ResourceError(f"the reader of rules has not answered in JSON: {problem}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ResourceError("the reader of rules has not answered with names")
    return names
