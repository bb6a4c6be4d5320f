"""Programs that are forks of their launcher."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Sequence

from ucspid.errors import EXIT_SYSTEM
from ucspid.ipc.messages import CONTROL, SetProgram
from ucspid.launcher.programs import Program
from ucspid.linux import prctl


class Forked(BaseException):
    """Raised in a fork, so that it leaves the launcher's stack and becomes the program.

    environment has what the connection sets, NAME=VALUE by name; others are copies of the sockets that the
    program gets beside the client's.
    """

    def __init__(self, environment: dict[bytes, bytes], others: Sequence[int]) -> None:
        """Keep the variables and the sockets."""
        super().__init__()
        self.environment = environment
        self._others = others

    def take_others(self) -> None:
        """Have the sockets where the launcher had its channels, which are closed; exit if that fails."""
        try:
            for place, descriptor in enumerate(self._others, CONTROL):
                os.dup2(descriptor, place)
                os.close(descriptor)
        except OSError:
            os._exit(EXIT_SYSTEM)


class Lent:
    """What a fork has that its launcher has not: its limits, its standard error, what ps(1) shows."""

    def __init__(
        self,
        limits: dict[str, int | None],
        program: SetProgram,
        shown: tuple[bytes, bytes, tuple[int, int]],
    ) -> None:
        """Limits are the soft ones of programs, None for infinity; shown is as for prctl.show_title()."""
        self._limits = []
        for name, number in (("nofile", resource.RLIMIT_NOFILE), ("cpu", resource.RLIMIT_CPU)):
            if name in limits:
                value = limits[name]
                soft = resource.RLIM_INFINITY if value is None else value
                self._limits.append((number, (soft, resource.getrlimit(number)[1])))
        self.program = program
        self._shown = shown

    def take(self, client: int, *, stderr_is_client: bool) -> None:
        """Take it, in the fork, and the client's socket as 0 and 1. Raises OSError and ValueError."""
        os.dup2(client, 0)
        os.dup2(client, 1)
        if stderr_is_client:
            os.dup2(client, 2)
        os.setpgid(0, 0)
        for number, limit in self._limits:
            resource.setrlimit(number, limit)
        prctl.show_title(*self._shown)
        prctl.set_dumpable(True)


class ForkedProgram(Program):
    """The program that its launcher has imported."""

    __slots__ = ("_lent",)

    def __init__(self, lent: Lent, message: SetProgram, descriptors: list[int]) -> None:
        """Take the master's message, which can say nothing new but which variables may be set."""
        super().__init__(message, descriptors)
        self._lent = lent

    def start(self, client: int, others: Sequence[int], variables: bytes) -> int:
        """Fork; raises Forked in the fork, on whose way the sockets that were received are closed."""
        environment = self.set_by(variables)
        process = os.fork()
        if process:
            # Whoever comes first: a signal may be for the group at once.
            with contextlib.suppress(OSError):
                os.setpgid(process, process)
            return process
        try:
            copies = [os.dup(descriptor) for descriptor in others]
            self._lent.take(client, stderr_is_client=self.stderr_is_client)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        except BaseException:  # noqa: BLE001 - the fork must not go on as a launcher
            os._exit(EXIT_SYSTEM)
        raise Forked(environment, copies)
