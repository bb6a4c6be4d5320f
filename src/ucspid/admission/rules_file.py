"""A rules file that is followed: a change is in force for the next connection, without a reload.

The kernel says when it changes (rules_watch). Where it cannot say that of all changes, as on a
network file system, the file is looked at when a connection comes, at most once a second. It is
read in a thread, so that neither a slow disk nor a large file holds up the event loop. What cannot
be used leaves the rules as they were, and is not parsed again until it changes.
"""

import asyncio
import errno
import math
import time
from collections.abc import Callable
from functools import partial

from structlog.typing import FilteringBoundLogger

from ucspid.admission.rules_look import Seen, Sight, look
from ucspid.admission.rules_watch import Watcher
from ucspid.admission.threads import Threads
from ucspid.errors import ConfigError
from ucspid.linux.inotify import Inotify
from ucspid.observe import events
from ucspid.plan import RulesFile
from ucspid.records import dataclass, field
from ucspid.rules.lookup import PARSERS, RuleTable
from ucspid.rules.restricted import Restricted
from ucspid.rules.rule import Rules

INTERVAL = 1.0
"""Seconds between checks of a file whose changes are not all reported, or that could not be read."""

WRITING = 1.0
"""Seconds for which a file that is written in place is not read, unless it is closed earlier."""

NAMES_TIMEOUT = 5.0
"""Seconds for which clients wait for new variables to be allowed."""

ASK_AGAIN = 10.0
"""Seconds after which variables that could not be allowed are asked for again."""

MAX_SHOWN = 10
"""Names of variables that a problem shows."""

HUNG_AFTER = 2.0
"""Seconds after which clients no longer wait for a check: the disk hangs."""

MAX_WAIT = 2 * (HUNG_AFTER + NAMES_TIMEOUT) + 10.0
"""Maximum seconds for which a client waits for a rules file: two checks, and some time to parse it."""

MAX_LOOKS = 32
"""Files that are looked at, at the same time: so many may hang before others are not looked at either."""


@dataclass(frozen=True, slots=True)
class RulesReaders:
    """What all rules files share: of the threads that read any may hang, and one at a time parses."""

    log: FilteringBoundLogger
    watcher: Watcher = field(default_factory=Watcher)
    reading: Threads = field(default_factory=partial(Threads, MAX_LOOKS))
    parsing: Threads = field(default_factory=partial(Threads, 1))


class FollowedRules:
    """The rules of one file, for all services that name it."""

    def __init__(self, file: RulesFile, readers: RulesReaders, ask: Callable[[], None]) -> None:
        """Begin with no rules; ask() is called when the file sets variables that are not allowed yet.

        What comes of that, answer() says.
        """
        self.file = file
        self.rules: Rules | None = None
        self.number = 0
        """The errno of why there are no rules, where that leaves none."""
        self.problem: str | None = None
        """Why what is in the file now is not in force."""
        self._readers = readers
        self._ask = ask
        self._allowed: frozenset[bytes] = frozenset()
        self._watched = False
        """Whether each change of the file is reported."""
        self._due = -math.inf
        """When to check, if no change is reported earlier."""
        self.seen: Seen | None = None
        self._broken: str | None = None
        """What is wrong with the version that was seen last."""
        self._table: RuleTable | None = None
        """The last version that could be read."""
        self._asked: asyncio.Future[str] | None = None
        """While variables are asked for: gets why they are not allowed, or nothing."""
        self._looking: asyncio.Task[None] | None = None
        self._answered: asyncio.Future[None] | None = None
        """Done when the current check ends, or hangs."""
        self._closing: asyncio.TimerHandle | None = None
        """Runs while the file may be written to."""
        self._forgotten = False

    @property
    def fresh(self) -> bool:
        """Whether the rules hold for a client that is there now: nothing newer is there, or can be read."""
        self._readers.watcher.check()
        if self._answered is not None:
            return self._answered.done()
        return time.monotonic() < self._due

    @property
    def busy(self) -> bool:
        """Whether the file is being read, so that clients had better wait."""
        return self._answered is not None and not self._answered.done()

    async def read(self) -> None:
        """Wait until the file is not being read any more, or hangs."""
        if self._answered is not None:
            await asyncio.shield(self._answered)

    async def refresh(self) -> None:
        """Look at the file, and put it in force if it has changed; returns within MAX_WAIT seconds."""
        if self._answered is not None:
            await self.read()
            if self.fresh:
                return  # or else that look began before this call, and was too early
        self.look()
        await self.read()

    def look(self) -> None:
        """Start a check of the file, unless one is under way."""
        if self._answered is None:
            loop = asyncio.get_running_loop()
            self._answered = loop.create_future()
            self._looking = loop.create_task(self._look(self._answered))

    def allow(self, names: frozenset[bytes]) -> None:
        """Let the rules set these variables, and no others."""
        self._allowed = names
        if self._table is None:
            return
        missing = self._missing(self._table)
        if self._asked is not None:
            if not missing:
                self.answer("")
        elif missing or self.rules is not self._table:
            self.look()

    def answer(self, why_not: str) -> None:
        """Wait no more for variables that were asked for: allowed by now, or not, and why."""
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(why_not)

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
        self._watched = False
        self._due = math.inf
        try:
            sight = await self._see(queue, answered)
            trail = sight.trail
            self._watched = trail.complete
            await self._use(sight)
        except (OSError, ConfigError) as problem:
            self._failed(_describe(problem), INTERVAL, _number(problem))
        except Exception as bug:  # noqa: BLE001 - the event loop's handler reports it
            context = {"message": f"looking at {self.file.path}", "exception": bug}
            asyncio.get_running_loop().call_exception_handler(context)
            self._failed("internal error", INTERVAL)
        finally:
            too_early = watcher.end(look_under_way, self, trail)
            if not self._watched:
                self._due = min(self._due, time.monotonic() + INTERVAL)
            self._looking = self._answered = None
            if self._forgotten:
                watcher.forget(self)
            elif too_early:
                self._due = -math.inf
                self.changed(finished=False)  # for the case that nobody connects
            if not answered.done():
                answered.set_result(None)

    async def _see(self, queue: Inotify | None, answered: asyncio.Future[None]) -> Sight:
        """Return what is there. Raises OSError if there is no thread to look."""
        reading = self._readers.reading.start(partial(look, self.file.path, self.seen, queue))
        await asyncio.wait({reading}, timeout=HUNG_AFTER)
        if not reading.done():
            self._failed(f"it could not be read within {HUNG_AFTER:g} s")
            answered.set_result(None)
        return await reading

    async def _use(self, sight: Sight) -> None:
        """Put what is there in force. Raises OSError, ConfigError if it cannot be."""
        if sight.problem is not None:
            raise sight.problem
        if sight.content is not None:
            await self._parse(sight.content)
        self.seen = sight.seen
        if self._broken is not None:
            self._failed(self._broken, lacking=errno.EPROTO)
        elif self._table is not None:
            why = await self._ask_for_variables(self._table)
            self._put_in_force(self._table, why)

    async def _parse(self, content: bytes) -> None:
        parse = partial(PARSERS[self.file.kind], content, self.file.path)
        try:
            self._table = await self._readers.parsing.start(parse)
        except ConfigError as problem:
            self._broken = str(problem)
        else:
            self._broken = None

    def _missing(self, table: RuleTable) -> frozenset[bytes]:
        return table.variables() - self._allowed

    async def _ask_for_variables(self, table: RuleTable) -> str:
        """Have the variables of a version allowed that are not; return why they are not, if they are not."""
        if not self._missing(table):
            return ""
        self._asked = asyncio.get_running_loop().create_future()
        self._ask()
        await asyncio.wait({self._asked}, timeout=NAMES_TIMEOUT)
        why = self._asked.result() if self._asked.done() else f"no answer within {NAMES_TIMEOUT:g} s"
        self._asked = None
        return why

    def _put_in_force(self, table: RuleTable, why: str = "") -> None:
        """Put a version in force; rules whose variables are not allowed refuse every client."""
        missing = self._missing(table)
        if missing:
            self.rules = Restricted(table, self._allowed)
            why = why or "the file has changed since"
            self._failed(f"it sets variables that are not allowed yet ({why}): {_shown(missing)}", ASK_AGAIN)
        elif table is not self.rules or self.problem is not None:
            self.rules = table
            self.problem = None
            events.rules_loaded(self._readers.log, self.file.path, len(table), watched=self._watched)

    def _failed(self, reason: str, again: float = math.inf, lacking: int = 0) -> None:
        """Keep the rules, unless the file wants others with the errno lacking; log the reason, once."""
        if lacking and self.file.unusable != "keep":
            self.number, self.rules = lacking, _without(self.file, lacking)
        self._due = min(self._due, time.monotonic() + again)
        if reason != self.problem:
            self.problem = reason
            events.rules_load_failed(self._readers.log, self.file, reason)


def _shown(names: frozenset[bytes]) -> str:
    """Return some of the names, and how many there are more."""
    some = [name.decode("utf-8", "surrogateescape") for name in sorted(names)[:MAX_SHOWN]]
    more = [f"and {len(names) - MAX_SHOWN} more"] if len(names) > MAX_SHOWN else []
    return " ".join(some + more)


def _number(problem: Exception) -> int:
    return (problem.errno if isinstance(problem, OSError) else None) or errno.EPROTO


def _without(file: RulesFile, number: int) -> Rules | None:
    """Return what holds in place of a file that cannot be read."""
    allow = number == errno.ENOENT and file.unusable == "allow_missing"
    return RuleTable(file.path) if allow else None


def _describe(problem: Exception) -> str:
    return (problem.strerror or str(problem)) if isinstance(problem, OSError) else str(problem)
