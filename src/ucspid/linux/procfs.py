"""What the kernel says of processes and descriptors: proc(5). To be called in a thread, where it is much."""

import contextlib
import os
from collections.abc import Collection, Mapping

ServiceByProcess = Mapping[int, str]
"""Processes, and whose they are."""


def parent(pid: int) -> int | None:
    """Return a process's parent, or None if there is no such process."""
    fields = _fields(pid)
    return None if fields is None else int(fields[1])


def group(pid: int) -> int | None:
    """Return a process's group, or None if there is no such process."""
    fields = _fields(pid)
    return None if fields is None else int(fields[2])


def children(pid: int) -> set[int]:
    """Return the children that a process's first thread has started; none if there is no such process.

    While they come and go, some may be missing.
    """
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return set(map(int, text.split()))


def open_descriptors() -> dict[int, str]:
    """Return this process's descriptors, and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # it was the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def differences(
    master: int, launchers: Mapping[int, ServiceByProcess], in_flight: Collection[int]
) -> list[str]:
    """Compare the processes of launchers with those that there are; return what differs.

    A program is a child of its launcher, or of the master once that launcher has died. Every child of a
    launcher is a program, but for one in the launcher's own process group: a preloaded program's fork that
    waits for its connection. Launchers in in_flight may be starting others. Nothing differs where other
    users' processes are hidden: hidepid in proc(5).
    """
    if parent(master) is None:
        return []
    found = []
    for launcher, programs in launchers.items():
        if parent(launcher) != master:
            found.append(f"launcher process {launcher}: not a child of the master")
        there = children(launcher)
        if launcher not in in_flight:
            others = sorted(there - programs.keys())
            spare = [pid for pid in others if group(pid) == launcher][:1]
            found += [
                f"process {pid}: a child of launcher process {launcher}, but not listed"
                for pid in others
                if pid not in spare
            ]
        for pid in programs.keys() - there:
            above = parent(pid)
            if above is None:
                found.append(f"{programs[pid]}: process {pid} does not exist")
            elif above not in (launcher, master):
                found.append(f"{programs[pid]}: process {pid} is a child of process {above}")
    return found


def _fields(pid: int) -> list[bytes] | None:
    """Return what stat says of a process after its name, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
