"""Rules files that are followed in the test's own event loop."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from ucspid.admission import rules_file
from ucspid.admission.rules_file import FollowedRules, RulesReaders
from ucspid.admission.rules_look import Seen, Sight, look
from ucspid.linux.inotify import Inotify
from ucspid.plan import RulesFile
from uvloops import in_uvloop

CLIENT = "192.0.2.7"

TIMEOUT = 20.0
"""Seconds after which a look that is under way has not ended."""


class Log:
    """The events that were logged."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.logger = structlog.wrap_logger(
            None, processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger("debug")
        )

    def _keep(self, _logger: Any, _level: str, fields: Any) -> Any:
        self.events.append(fields)
        raise structlog.DropEvent

    @property
    def names(self) -> list[str]:
        return [item["event"] for item in self.events]

    @property
    def reasons(self) -> list[str]:
        return [item["reason"] for item in self.events if item["event"] == "rules_load_failed"]


class Case:
    """Files in a folder, and what follows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log()
        self.readers = RulesReaders(self.log.logger)
        self.asked = 0
        self.on_ask: Callable[[FollowedRules], None] = lambda _followed: None
        """Called when variables of the file that is followed last are asked for."""
        self._followed: list[FollowedRules] = []

    def follow(
        self,
        name: str = "rules",
        text: str | None = None,
        unusable: Literal["keep", "refuse", "allow_missing"] = "keep",
    ) -> FollowedRules:
        """Follow a file, which is written first if a text is given."""
        path = self.folder / name
        if text is not None:
            path.write_text(text)
        kind: Literal["cdb", "text"] = "cdb" if name.endswith(".cdb") else "text"
        file = RulesFile(path=str(path), kind=kind, unusable=unusable)
        followed = FollowedRules(file, self.readers, self._ask)
        self._followed.append(followed)
        return followed

    async def loaded(self, name: str = "rules", text: str = ":allow\n") -> FollowedRules:
        """Follow a file, and have it read."""
        followed = self.follow(name, text)
        await followed.refresh()
        return followed

    def _ask(self) -> None:
        self.asked += 1
        self.on_ask(self._followed[-1])

    def write(self, text: str, name: str = "rules") -> None:
        """Put another file in place of the one there, as editors do."""
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.rename(self.folder / name)

    async def close(self) -> None:
        """Follow nothing any more: nothing is open once the looks end that are under way."""
        for followed in self._followed:
            followed.forget()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        if under_way:
            await asyncio.wait(under_way, timeout=TIMEOUT)
        assert self.readers.watcher.descriptors == set()


def following(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in uvloop; its case, which must be given by name, is closed at the end."""

    @functools.wraps(test)
    async def run(case: Case, **others: Any) -> None:
        await test(case, **others)
        await case.close()

    return functools.wraps(test)(in_uvloop(run))


class Hang:
    """Files that hang until the end, as in open(2) on a dead NFS server."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.begun: list[str] = []
        """The files that were looked at, those that hang and others."""
        self._over = threading.Event()

    def look(self, path: str, seen: Seen | None, queue: Inotify | None) -> Sight:
        self.begun.append(path)
        if path in self.paths:
            self._over.wait()
        return look(path, seen, queue)

    def end(self) -> None:
        self._over.set()


@contextlib.contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    """Have files hang, those whose paths are added to what is yielded."""
    hang = Hang()
    monkeypatch.setattr(rules_file, "look", hang.look)
    yield hang
    hang.end()


def verdict(followed: FollowedRules) -> str:
    """Return what the rules in force say to a client."""
    assert followed.rules is not None
    return followed.rules.match(CLIENT).verdict


def variables(followed: FollowedRules, ip: str = CLIENT) -> dict[bytes, bytes]:
    """Return what the rules in force set for a client."""
    assert followed.rules is not None
    return dict(followed.rules.match(ip).env)


def problem(followed: FollowedRules) -> str | None:
    """Return why what is in the file is not in force, as it is now."""
    return followed.problem


def fresh(followed: FollowedRules) -> bool:
    """Return whether the rules may be used, as it is now."""
    return followed.fresh
