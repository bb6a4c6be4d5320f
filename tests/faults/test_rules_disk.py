"""Rules files on a disk that hangs: other services notice nothing, and a stop does not wait for it."""

import concurrent.futures
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import running
from folders import public_folder
from hung_disk import hung_disk
from ucspid.admission.rules_file import HUNG_AFTER

HUNG = [f"hung{number}" for number in range(8)]
"""Services whose rules are on that disk: more than asyncio's executor has threads, on two cores."""

MAX_SECONDS = 5.0
"""Seconds for a stop: half of those after which what hangs would be killed."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


def move(link: Path, target: Path) -> None:
    """Have a rules file be another one, at once."""
    new = link.with_suffix(".new")
    new.symlink_to(target)
    new.rename(link)


def test_rules_on_a_hung_disk_hold_up_neither_other_services_nor_a_stop(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    files = {name: folder / name for name in [*HUNG, "healthy"]}
    services = {}
    for name, file in files.items():
        (folder / f"{name}.1").write_text(":allow\n")
        file.symlink_to(f"{name}.1")
        services[name] = {"listen": "127.0.0.1:0", "program": ["echo", "in"], "rules": str(file)}
    with contextlib.ExitStack() as stack:
        with running(folder, {"services": services}) as daemon:
            daemon.wait_events(len(services), "rules_loaded")
            stack.enter_context(hung_disk(disk))
            slowest = 0.0
            for name in HUNG:
                move(files[name], disk / name)
            with concurrent.futures.ThreadPoolExecutor(len(HUNG)) as pool:
                talks = [pool.submit(daemon.talk, name) for name in HUNG]
                while not all(talk.done() for talk in talks):
                    began = time.monotonic()
                    assert daemon.talk("healthy") == b"in\n"
                    slowest = max(slowest, time.monotonic() - began)
            assert [talk.result() for talk in talks] == [b"in\n"] * len(HUNG)  # the rules of before hold
            assert slowest < HUNG_AFTER / 2
            for name in HUNG:
                reason = daemon.wait_event("rules_load_failed", path=str(files[name]))["reason"]
                assert "could not be read" in reason
            move(files["healthy"], folder / "missing")
            assert daemon.talk("healthy") == b"in\n"
            daemon.wait_event("rules_load_failed", path=str(files["healthy"]))
            began = time.monotonic()
        assert time.monotonic() - began < MAX_SECONDS
