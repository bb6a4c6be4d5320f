"""Tests that run in uvloop, as the event loop's process does, and must leave nothing behind."""

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import uvloop

P = ParamSpec("P")


def in_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in a new uvloop; no task and no descriptor may be left at its end."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_checked(test(*args, **kwargs)))

    return run


async def _checked(test: Coroutine[Any, Any, None]) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    before = descriptors()
    await test
    assert problems == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert descriptors() <= before


def descriptors() -> set[tuple[str, str]]:
    """Return the sockets that this process has open, by number and inode."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(path)
            if target.startswith("socket:"):
                found.add((path.name, target))
    return found
