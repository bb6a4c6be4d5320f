"""A rules file that is followed: a change is in force for the next connection, without a reload.

The kernel says when it changes (rules_watch). Where it cannot say that of all changes, as on a
network file system, the file is looked at when a connection comes, at most once a second. It is
read in a thread, so that neither a slow disk nor a large file holds up the event loop. What cannot
be used leaves the rules as they were, and is not parsed again until it changes.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from structlog.typing import FilteringBoundLogger

from ucspid.admission.rules_look import Seen, Sight, look
from ucspid.admission.rules_watch import Watcher
from ucspid.admission.threads import Threads
from ucspid.errors import ConfigError
from ucspid.linux.inotify import Inotify
from ucspid.observe import events
from ucspid.plan import RulesFile
from ucspid.rules.lookup import PARSERS, RuleTable

INTERVAL = 1.0
"""Seconds between looks at a file of which not all changes are reported, or that could not be read."""

WRITING = 1.0
"""Seconds for which a file that is written in place is left alone, unless it is closed before."""

HUNG_AFTER = 2.0
"""Seconds after which nobody waits for a look any more: the disk hangs."""

MAX_LOOKS = 32
"""Files that are looked at, at the same time: so many may hang before others are not looked at either."""


@dataclass(frozen=True, slots=True)
class RulesReaders:
    """What all rules files share: of the threads that read any may hang, and one at a time parses."""

    log: FilteringBoundLogger
    watcher: Watcher = field(default_factory=Watcher)
    reading: Threads = field(default_factory=partial(Threads, MAX_LOOKS))
    parsing: Threads = field(default_factory=partial(Threads, 1))


class Followed:
    """The rules of one file, for all services that name it."""

    def __init__(self, file: RulesFile, readers: RulesReaders, unknown: Callable[[], None]) -> None:
        """Begin with no rules; unknown() is called when a change sets variables that are not allowed yet."""
        self.file = file
        self.rules: RuleTable | None = None
        self.allowed: frozenset[bytes] = frozenset()
        self.problem: str | None = None
        """Why what is in the file now is not in force."""
        self._readers = readers
        self._unknown = unknown
        self._sure = False
        """Whether there is no need to look as long as nothing is reported."""
        self._looked = -math.inf
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
        self._closing: asyncio.TimerHandle | None = None
        """Runs while the file may be written to."""
        self._forgotten = False

    @property
    def fresh(self) -> bool:
        """Whether the rules may be used for a client that is there now: nothing newer is, or can be had."""
        self._readers.watcher.check()
        if self._answered is not None:
            return self._answered.done()
        return self._sure or time.monotonic() - self._looked < INTERVAL

    async def refresh(self) -> None:
        """Look at the file, and put it in force if it has changed.

        Returns after HUNG_AFTER; after twice that, if the file changes meanwhile.
        """
        looks = 1
        if self._answered is not None:  # that look began before this call, and may be too early
            self._readers.watcher.check()
            looks = 2
        self.look()
        while self._answered is not None and looks:
            looks -= 1
            await asyncio.shield(self._answered)

    def look(self) -> None:
        """Begin to look at the file, unless that is under way."""
        if self._answered is None:
            loop = asyncio.get_running_loop()
            self._answered = loop.create_future()
            self._looking = loop.create_task(self._look(self._answered))

    def allow(self, names: frozenset[bytes]) -> None:
        """Let the rules set these variables."""
        if names != self.allowed:
            self.allowed = names
            self._asked = None
            if self._table is not None:
                self._put_in_force(self._table)

    def changed(self, *, finished: bool) -> None:
        """Take note that another file may be there; what is still written to has a moment to be closed."""
        if not finished:
            if self._closing is None:
                written = partial(self.changed, finished=True)
                self._closing = asyncio.get_running_loop().call_later(WRITING, written)
            return
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        self.look()

    def forget(self) -> None:
        """Follow the file no more."""
        self._forgotten = True
        if self._closing is not None:
            self._closing.cancel()
        self._readers.watcher.forget(self)

    async def _look(self, answered: asyncio.Future[None]) -> None:
        watcher = self._readers.watcher
        look_under_way, queue = watcher.begin()
        trail = None
        self._sure = False
        try:
            sight = await self._see(queue, answered)
            trail = sight.trail
            await self._use(sight)
        except (OSError, ConfigError) as problem:
            self._failed(_describe(problem))
        except Exception as bug:  # noqa: BLE001 - the event loop's handler reports it
            context = {"message": f"looking at {self.file.path}", "exception": bug}
            asyncio.get_running_loop().call_exception_handler(context)
            self._failed("internal error")
        finally:
            too_early = watcher.end(look_under_way, self, trail)
            self._looked = time.monotonic()
            self._looking = self._answered = None
            if self._forgotten:
                watcher.forget(self)
            elif too_early:
                self.look()
            if not answered.done():
                answered.set_result(None)

    async def _see(self, queue: Inotify | None, answered: asyncio.Future[None]) -> Sight:
        """Return what is there. Raises OSError if there is no thread to look."""
        reading = self._readers.reading.start(partial(look, self.file.path, self._seen, queue))
        await asyncio.wait({reading}, timeout=HUNG_AFTER)
        if not reading.done():
            self._failed(f"it could not be read within {HUNG_AFTER:g} s")
            answered.set_result(None)
        return await reading

    async def _use(self, sight: Sight) -> None:
        """Put what is there in force. Raises OSError, ConfigError if it cannot be."""
        if sight.problem is not None:
            raise sight.problem
        self._seen = sight.seen
        if sight.content is not None:
            await self._parse(sight.content)
        self._sure = sight.trail.complete
        if self._broken is not None:
            self._failed(self._broken)
        elif self._table is not None:
            self._put_in_force(self._table)

    async def _parse(self, content: bytes) -> None:
        parse = partial(PARSERS[self.file.kind], content, self.file.path)
        try:
            self._table = await self._readers.parsing.start(parse)
        except ConfigError as problem:
            self._broken = str(problem)
        else:
            self._broken = None

    def _put_in_force(self, table: RuleTable) -> None:
        if not table.variables() <= self.allowed:
            if table is not self._asked:
                self._asked = table
                self._unknown()
        elif table is not self.rules or self.problem is not None:
            self.rules = table
            self.problem = None
            events.rules_loaded(self._readers.log, self.file.path, len(table), watched=self._sure)

    def _failed(self, reason: str) -> None:
        """Leave the rules as they are; say why, once."""
        if reason != self.problem:
            self.problem = reason
            events.rules_load_failed(self._readers.log, self.file.path, reason)


def _describe(problem: Exception) -> str:
    return (problem.strerror or str(problem)) if isinstance(problem, OSError) else str(problem)
