"""A rules file that is followed: a change is taken up by the next connection, without a reload.

The file is looked at when a connection comes, at most once a second, in a thread, so that
neither a slow disk nor a large file holds up the event loop, and an idle daemon does not look.
A file that is broken leaves the rules as they were.
"""

import asyncio
import os
import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from ucspid.errors import ConfigError
from ucspid.observe import events
from ucspid.plan import RulesFile
from ucspid.rules.lookup import RuleTable, read_cdb, read_text

INTERVAL = 1.0
"""Seconds between looks at the file."""

_READ = {"text": read_text, "cdb": read_cdb}

Signature = tuple[int, int, int, int]


class Followed:
    """The rules of one file, for all services that name it."""

    def __init__(self, file: RulesFile, log: FilteringBoundLogger, unknown: Callable[[], None]) -> None:
        """Begin with no rules; unknown() is called when a change sets variables that are not allowed yet."""
        self.file = file
        self.rules: RuleTable | None = None
        self.allowed: frozenset[bytes] = frozenset()
        self._log = log
        self._unknown = unknown
        self._looked = -INTERVAL
        self._signature: Signature | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def fresh(self) -> bool:
        """Whether the rules may be used as they are."""
        return self._looking is None and time.monotonic() - self._looked < INTERVAL

    async def refresh(self) -> None:
        """Look at the file, and take it up if it has changed."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        await asyncio.shield(self._looking)

    def allow(self, names: frozenset[bytes]) -> None:
        """Let the rules set these variables; the next connection looks at the file again."""
        if names != self.allowed:
            self.allowed = names
            self._looked = -INTERVAL
            self._signature = None

    async def _look(self) -> None:
        try:
            signature, rules = await asyncio.to_thread(self._read, self._signature)
        except (OSError, ConfigError) as problem:
            events.rules_broken(self._log, self.file.path, _describe(problem))
            signature, rules = None, None
        finally:
            self._looked = time.monotonic()
            self._looking = None
        if rules is None:
            return
        self._signature = signature
        if rules.variables() <= self.allowed:
            self.rules = rules
            events.rules_taken(self._log, self.file.path, len(rules))
        else:
            self._unknown()

    def _read(self, known: Signature | None) -> tuple[Signature, RuleTable | None]:
        """Return the file's signature, and its rules if it is not the known one. Runs in a thread."""
        status = os.stat(self.file.path)
        signature = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
        if signature == known:
            return signature, None
        return signature, _READ[self.file.kind](self.file.path)


def _describe(problem: Exception) -> str:
    return (problem.strerror or str(problem)) if isinstance(problem, OSError) else str(problem)
