"""A rules file that is followed: a change is in force for the next connection, without a reload.

The file is looked at when a connection comes, at most once a second. It is read in a thread, so that
neither a slow disk nor a large file holds up the event loop. What cannot be used leaves the rules as
they were, and is not read again until it changes.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from structlog.typing import FilteringBoundLogger

from ucspid.admission.rules_look import Seen, look
from ucspid.admission.threads import Threads
from ucspid.errors import ConfigError
from ucspid.observe import events
from ucspid.plan import RulesFile
from ucspid.rules.lookup import PARSERS, RuleTable

INTERVAL = 1.0
"""Seconds between looks at the file."""

HUNG_AFTER = 2.0
"""Seconds after which nobody waits for a look any more: the disk hangs."""

MAX_LOOKS = 32
"""Files that are looked at, at the same time: so many may hang before others are not looked at either."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Threads for all rules files: of those that read any may hang, and one at a time parses."""

    reading: Threads = field(default_factory=partial(Threads, MAX_LOOKS))
    parsing: Threads = field(default_factory=partial(Threads, 1))


class Followed:
    """The rules of one file, for all services that name it."""

    def __init__(
        self, file: RulesFile, log: FilteringBoundLogger, workers: Workers, unknown: Callable[[], None]
    ) -> None:
        """Begin with no rules; unknown() is called when a change sets variables that are not allowed yet."""
        self.file = file
        self.rules: RuleTable | None = None
        self.allowed: frozenset[bytes] = frozenset()
        self.problem: str | None = None
        """Why what is in the file now is not in force."""
        self._log = log
        self._workers = workers
        self._unknown = unknown
        self._looked = -INTERVAL
        self._seen: Seen | None = None
        self._table: RuleTable | None = None
        """The last version that could be read."""
        self._asked: RuleTable | None = None
        """The version whose variables were asked for last."""
        self._broken: str | None = None
        """What is wrong with the version that was seen last."""
        self._looking: asyncio.Task[None] | None = None
        self._answered: asyncio.Future[None] | None = None
        """Done when the look under way is over, or hangs."""

    @property
    def fresh(self) -> bool:
        """Whether the rules may be used as they are: nothing newer is there, or can be had."""
        if self._answered is not None:
            return self._answered.done()
        return time.monotonic() - self._looked < INTERVAL

    async def refresh(self) -> None:
        """Look at the file, and put it in force if it has changed; returns after HUNG_AFTER at the latest."""
        if self._answered is None:
            loop = asyncio.get_running_loop()
            self._answered = loop.create_future()
            self._looking = loop.create_task(self._look(self._answered))
        await asyncio.shield(self._answered)

    def allow(self, names: frozenset[bytes]) -> None:
        """Let the rules set these variables."""
        if names != self.allowed:
            self.allowed = names
            self._asked = None
            if self._table is not None:
                self._put_in_force(self._table)

    async def _look(self, answered: asyncio.Future[None]) -> None:
        try:
            self._broken = await self._take(answered)
            if self._broken is not None:
                self._failed(self._broken)
            elif self._table is not None:
                self._put_in_force(self._table)
        except (OSError, ConfigError) as problem:
            self._failed(_describe(problem))
        except Exception as bug:  # noqa: BLE001 - the event loop's handler reports it
            context = {"message": f"looking at {self.file.path}", "exception": bug}
            asyncio.get_running_loop().call_exception_handler(context)
            self._failed("internal error")
        finally:
            self._looked = time.monotonic()
            self._looking = self._answered = None
            if not answered.done():
                answered.set_result(None)

    async def _take(self, answered: asyncio.Future[None]) -> str | None:
        """Take what is in the file; return what is wrong with its rules. Raises OSError, ConfigError."""
        reading = self._workers.reading.start(partial(look, self.file.path, self._seen))
        await asyncio.wait({reading}, timeout=HUNG_AFTER)
        if not reading.done():
            self._failed(f"it could not be read within {HUNG_AFTER:g} s")
            answered.set_result(None)
        self._seen, content = await reading
        if content is None:
            return self._broken
        parse = partial(PARSERS[self.file.kind], content, self.file.path)
        try:
            self._table = await self._workers.parsing.start(parse)
        except ConfigError as problem:
            return str(problem)
        return None

    def _put_in_force(self, table: RuleTable) -> None:
        if not table.variables() <= self.allowed:
            if table is not self._asked:
                self._asked = table
                self._unknown()
        elif table is not self.rules or self.problem is not None:
            self.rules = table
            self.problem = None
            events.rules_loaded(self._log, self.file.path, len(table))

    def _failed(self, reason: str) -> None:
        """Leave the rules as they are; say why, once."""
        if reason != self.problem:
            self.problem = reason
            events.rules_load_failed(self._log, self.file.path, reason)


def _describe(problem: Exception) -> str:
    return (problem.strerror or str(problem)) if isinstance(problem, OSError) else str(problem)
