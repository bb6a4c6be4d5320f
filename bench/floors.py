"""Servers that do nothing but start programs: the least that a connection can cost, in C and in Python."""

import subprocess
import sys
from pathlib import Path

from bench import measure
from bench.launching import launch, port_said
from bench.server import Server, Workload


class Uvloop:
    """A floor: uvloop's own subprocess_exec, what a plain asyncio superserver would be."""

    name = "uvloop subprocess_exec"

    def absent(self) -> str | None:
        """Return None: ucspid has uvloop."""
        return None

    def start(self, workload: Workload) -> Server:
        """Start it."""
        process = _python("naive_uvloop.py", workload)
        return _Slow(process, [port_said(process)])


class _Slow(Server):
    """A server that takes ten times as long as the others."""

    share = 0.25


class TwoProcesses:
    """A floor: two Python processes for each connection, as in ucspid, that do nothing else."""

    name = "two Python processes"

    def absent(self) -> str | None:
        """Return None: ucspid has uvloop."""
        return None

    def start(self, workload: Workload) -> Server:
        """Start it."""
        process = _python("two_processes.py", workload)
        return _WithLaunchers(process, [port_said(process)])


class _WithLaunchers(Server):
    """A server whose launchers are there before it says that it listens."""

    def __init__(self, process: subprocess.Popen[bytes], ports: list[int]) -> None:
        super().__init__(process, ports)
        self._pids = measure.descendants(process.pid)

    def pids(self) -> list[int]:
        """Return the one that accepts and the launchers."""
        return self._pids


def _python(script: str, workload: Workload) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(Path(__file__).with_name(script)), *workload.program]
    return launch(command, workload, subprocess.DEVNULL, says_port=True)


class Floor:
    """A floor in C: accept, vfork, exec; or accept and close."""

    def __init__(self, program: str, kind: str = "exec") -> None:
        """Use the compiled program."""
        self.name = f"C {'accept+vfork+exec' if kind == 'exec' else 'accept+close'}"
        self._command = [program, kind]

    def absent(self) -> str | None:
        """Return None: without a compiler there is no bench at all."""
        return None

    def start(self, workload: Workload) -> Server:
        """Start it."""
        program = workload.program if self._command[1] == "exec" else ()
        process = launch([*self._command, *program], workload, subprocess.DEVNULL, says_port=True)
        return Server(process, [port_said(process)])
