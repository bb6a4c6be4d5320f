"""What a launcher lends a program for the moment of its start, which inherits it. Imported by launchers.

Descriptors 0 and 1 become the client's socket and 2 the service's log. Two soft limits are the programs':
of descriptors, which the daemon has raised for itself, and of CPU time, which the launcher's own use is
not to count against. With nothing for posix_spawn(3) to do about descriptors, it does not matter how high
their numbers are, and a start is cheaper.
"""

import contextlib
import os
import resource
from collections.abc import Mapping

SoftAndHard = tuple[int, int]
"""Soft and hard, as getrlimit(2) has them."""


class Lending:
    """Lends and takes back; one at a time."""

    __slots__ = ("_cpu", "_lent", "_null", "_stderr")

    def __init__(self, limits: Mapping[str, int | None]) -> None:
        """Keep what to take back: 0, of which 1 is a copy, 2, and the limits.

        limits may have the programs' soft limits nofile and cpu, in seconds, None for infinity; otherwise
        they are what they are now. The launcher's own of CPU time becomes the hard one. If it has used more
        than it lends, the kernel may send it SIGXCPU meanwhile, which it has to block.
        """
        self._lent: list[tuple[int, SoftAndHard, SoftAndHard]] = []
        for name, number in (("nofile", resource.RLIMIT_NOFILE), ("cpu", resource.RLIMIT_CPU)):
            soft, hard = resource.getrlimit(number)
            value = limits.get(name, soft)
            programs = (resource.RLIM_INFINITY if value is None else value, hard)
            if name == "cpu":
                self._cpu = programs
                soft = hard
                resource.setrlimit(number, (hard, hard))
            if programs[0] != soft:
                self._lent.append((number, programs, (soft, hard)))
        self._null = os.dup(0)
        self._stderr = os.dup(2)

    def lend(self, client: int, stderr: int | None) -> None:
        """Lend a client's socket, and a descriptor for stderr unless it is the daemon's own."""
        os.dup2(client, 0)
        os.dup2(client, 1)
        if stderr is not None:
            os.dup2(stderr, 2)
        for number, programs, _own in self._lent:
            resource.setrlimit(number, programs)

    def started(self, process: int) -> None:
        """See to it that the program has its limit of CPU time; call between lend() and take_back().

        A tick of the clock in between, with more time used than is lent, raises the limit by a second.
        """
        if resource.getrlimit(resource.RLIMIT_CPU) != self._cpu:
            # A program that is setuid is not ours to limit; it may have ended, too.
            with contextlib.suppress(PermissionError, ProcessLookupError):
                resource.prlimit(process, resource.RLIMIT_CPU, self._cpu)

    def take_back(self) -> None:
        """Have everything as before: the client must see its program end."""
        for number, _programs, own in self._lent:
            resource.setrlimit(number, own)
        os.dup2(self._null, 0)
        os.dup2(self._null, 1)
        os.dup2(self._stderr, 2)
