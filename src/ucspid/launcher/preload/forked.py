"""Programs that are forks of their launcher.

A fork copies each page of memory that it writes to, and each object that is used is written to, as it counts
its references. That is most of what a session costs. So few objects are used here: a fork does not unwind the
stack of the launcher, and uses neither ctypes, if it can do without, nor the constants of signal.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys

from ucspid.errors import EXIT_SYSTEM
from ucspid.ipc.channel import close_all
from ucspid.ipc.messages import CONTROL, SetProgram
from ucspid.launcher.preload.spare import Spare
from ucspid.launcher.programs import Program, by_name
from ucspid.linux import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

_set_mask = sys.modules["_signal"].pthread_sigmask
"""As in signal, but the signals that it returns are plain numbers."""
_SET_MASK = int(signal.SIG_SETMASK)


class Lent:
    """What a fork has that its launcher has not: its limits, its standard error, what ps(1) shows."""

    def __init__(
        self,
        limits: dict[str, int | None],
        program: SetProgram,
        shown: tuple[bytes, bytes, tuple[int, int]],
        *,
        dumpable: bool,
    ) -> None:
        """Limits are the soft ones of programs, None for infinity; shown is as for prctl.show_title().

        dumpable is whether the launcher is, and hence each fork from its beginning.
        """
        self._limits = []
        for name, number in (("nofile", resource.RLIMIT_NOFILE), ("cpu", resource.RLIMIT_CPU)):
            if name in limits:
                value = limits[name]
                soft = resource.RLIM_INFINITY if value is None else value
                self._limits.append((number, (soft, resource.getrlimit(number)[1])))
        self.program = program
        self._dumpable = dumpable
        self._comm: int | None = None
        self._name, arguments, area = shown
        self._area = prctl.arguments_memory(area)
        self._arguments = arguments[: max(0, area[1] - 1)].ljust(area[1], b"\0")

    def prepare(self) -> None:
        """Do what needs no connection, and what nobody sees of it."""
        self._comm = _open_comm()

    def take(self, client: int, others: Sequence[int], *, stderr_is_client: bool) -> None:
        """Take it, in the fork, and the sockets as the program has them. Raises OSError and ValueError.

        The launcher's channels, which have been where the others go, are closed; what was received is closed.
        """
        os.dup2(client, 0)
        os.dup2(client, 1)
        if stderr_is_client:
            os.dup2(client, 2)
        os.close(client)
        if others:
            for place, descriptor in enumerate(others, CONTROL):
                os.dup2(descriptor, place)
            close_all(others)
        for number, limit in self._limits:
            resource.setrlimit(number, limit)
        self._area[:] = self._arguments
        if not self._dumpable:
            prctl.set_dumpable(True)
        comm = _open_comm() if self._comm is None else self._comm
        if comm is None:
            prctl.show_name(self._name)
        else:
            os.write(comm, self._name)
            os.close(comm)
        _set_mask(_SET_MASK, ())


def _open_comm() -> int | None:
    """Open what sets the name that ps(1) shows; None if there is no /proc below another root directory."""
    try:
        return os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return None


class ForkedProgram(Program):
    """The program that its launcher has imported."""

    __slots__ = ("_abandon", "_lent", "_run", "_spare")

    def __init__(
        self,
        lent: Lent,
        spare: Spare,
        abandon: Callable[[], None],
        run: Callable[[dict[bytes, bytes]], NoReturn],
        message: SetProgram,
        descriptors: list[int],
    ) -> None:
        """Take the master's message, which can say nothing new but which variables may be set.

        In a fork, abandon closes all that is the launcher's, and run is the program, with what the connection
        sets: NAME=VALUE by name.
        """
        super().__init__(message, descriptors)
        self._lent = lent
        self._spare = spare
        self._abandon = abandon
        self._run = run
        spare.of(self._become_spare)

    def start(self, client: int, others: Sequence[int], variables: bytes) -> int:
        """Have a fork run the program on the sockets, which are its own: the spare, or one made now.

        Of what a fork becomes nothing returns.
        """
        environment = self.set_by(variables)
        process = self._spare.give((client, *others), variables)
        if process:
            return process
        process = os.fork()
        if not process:
            self._become(client, others, environment)
        # Whoever comes first: a signal may be for the group at once.
        with contextlib.suppress(OSError):
            os.setpgid(process, process)
        return process

    def close(self) -> None:
        """Close the descriptor of standard error, and end the spare."""
        super().close()
        self._spare.withdraw(self._become_spare)

    def _become(self, client: int, others: Sequence[int], environment: dict[bytes, bytes]) -> NoReturn:
        try:
            self._abandon()
            os.setpgid(0, 0)
            self._lent.take(client, others, stderr_is_client=self.stderr_is_client)
        except BaseException:  # noqa: BLE001 - the fork must not go on as a launcher
            os._exit(EXIT_SYSTEM)
        self._run(environment)

    def _become_spare(self, end: socket.socket) -> NoReturn:
        try:
            self._abandon()
            self._spare.keep_places(end)
            self._lent.prepare()
            (client, *others), variables = self._spare.take(end)
            self._lent.take(client, others, stderr_is_client=self.stderr_is_client)
            environment = by_name(variables)
        except BaseException:  # noqa: BLE001 - the fork must not go on as a launcher
            os._exit(EXIT_SYSTEM)
        self._run(environment)
