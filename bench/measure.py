"""What processes and the system used: CPU time, memory."""

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path

_NANOSECONDS = 1e9
_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS = frozenset({3, 4})
"""Of the line cpu in /proc/stat: idle and iowait."""
_GUEST = 8
"""From here on the fields of that line are counted in others."""
_UTIME, _CSTIME = 11, 15
"""Of /proc/PID/stat after the name: utime, stime, cutime, cstime."""
_START_TIME = 19


def children(pid: int) -> list[int]:
    """Return the children of a process; none if it is gone."""
    try:
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Return a process and all below it, as they were found."""
    return [pid, *(below for child in children(pid) for below in descendants(child))]


def cpu_of(pids: list[int]) -> float:
    """Return CPU seconds of processes and of their children that have ended."""
    return sum(map(_cpu, pids))


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[_UTIME:_CSTIME])) / _TICKS if fields else 0.0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name; none if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(") ")[2].split()


def running_time_of(pids: list[int]) -> float:
    """Return CPU seconds of processes alone, to the nanosecond; NaN where the kernel does not count so."""
    return sum(map(_running_time, pids))


def _running_time(pid: int) -> float:
    try:
        threads = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except OSError:
        return math.nan
    return sum(int(text.split()[0]) for text in threads) / _NANOSECONDS if threads else math.nan


def start_time(pid: int) -> str:
    """Return when a process began: a later one with its number began at another time. "" if it is gone."""
    fields = _stat(pid)
    return fields[_START_TIME] if fields else ""


def system_cpu() -> float:
    """Return CPU seconds of the whole system since it started: all that is not idle."""
    with Path("/proc/stat").open() as file:
        fields = file.readline().split()[1:]
    return (
        sum(int(value) for place, value in enumerate(fields[:_GUEST]) if place not in _IDLE_FIELDS) / _TICKS
    )


def pss_of(pids: list[int]) -> float:
    """Return the bytes of memory of processes, what is shared divided among those who share it.

    Those that have ended have none.
    """
    return float(sum(map(_pss, pids)))


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024


@dataclass(frozen=True)
class Used:
    """CPU seconds between two moments: of the server with its programs, and of the whole system."""

    server: float
    system: float


class Meter:
    """CPU time from its making on."""

    def __init__(self, pids: list[int]) -> None:
        """Begin to measure processes and the system."""
        self._server = cpu_of(pids)
        self._system = system_cpu()

    def used(self, pids: list[int]) -> Used:
        """Return what was used since; the processes may have become more."""
        return Used(cpu_of(pids) - self._server, system_cpu() - self._system)


def machine() -> dict[str, object]:
    """Return what a reader of the figures must know of the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
