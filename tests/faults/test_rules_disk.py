"""Rules files on a disk that hangs: other services notice nothing, and a stop does not wait for it."""

import concurrent.futures
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import TIMEOUT, Daemon, running
from folders import public_folder
from hung_disk import hung_disk
from ucspid.admission.rules_file import HUNG_AFTER

HUNG = [f"hung{number}" for number in range(8)]
"""Services whose rules are on that disk: more than asyncio's executor has threads, on two cores."""

PATIENCE = 5.0
"""Seconds for a stop: half of those after which what hangs would be killed."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


def failed(daemon: Daemon, path: Path) -> bool:
    return any(
        item["event"] == "rules_load_failed" and item["path"] == str(path) and "within" in item["reason"]
        for item in daemon.events
    )


def talk_until_failed(daemon: Daemon, name: str, path: Path) -> None:
    """Connect until the disk was found to hang: clients wait for a moment, and the rules of before hold."""
    deadline = time.monotonic() + TIMEOUT
    while not failed(daemon, path):
        assert daemon.talk(name) == b"in\n"
        assert time.monotonic() < deadline


def test_rules_on_a_hung_disk_hold_up_neither_other_services_nor_a_stop(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    files = {name: (disk if name in HUNG else folder) / name for name in [*HUNG, "healthy"]}
    services = {}
    for name, file in files.items():
        file.write_text(":allow\n")
        services[name] = {"listen": "127.0.0.1:0", "program": ["echo", "in"], "rules": str(file)}
    with contextlib.ExitStack() as stack:
        with running(folder, {"services": services}) as daemon:
            for name in services:
                assert daemon.talk(name) == b"in\n"
            stack.enter_context(hung_disk(disk))
            slowest = 0.0
            with concurrent.futures.ThreadPoolExecutor(len(HUNG)) as pool:
                talks = [pool.submit(talk_until_failed, daemon, name, files[name]) for name in HUNG]
                while not all(talk.done() for talk in talks):
                    began = time.monotonic()
                    assert daemon.talk("healthy") == b"in\n"
                    slowest = max(slowest, time.monotonic() - began)
            for talk in talks:
                talk.result()
            assert slowest < HUNG_AFTER / 2
            began = time.monotonic()
        assert time.monotonic() - began < PATIENCE
