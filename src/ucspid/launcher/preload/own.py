"""A program of ucspid's own, which needs no other interpreter than the launcher's.

Nothing of it belongs to a service's user. So it is imported while the launcher can still read its files: it
runs where they are out of reach, outside the root directory even.
"""

import importlib
import os

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.launcher.preload import main
from ucspid.linux import prctl


class OwnProgram:
    """What the master has said of it, and the program, imported."""

    def __init__(
        self, program: bytes, stderr: list[int], preload: bytes, earlier: list[bytes], orphans: set[int]
    ) -> None:
        """Import it; the arguments are packets of the master's, and the descriptor beside the first."""
        self._program = wire.SetProgram.unpack(program)
        if len(stderr) != (self._program.stderr == wire.STDERR_GIVEN):
            raise WireError(f"{len(stderr)} descriptors with a program")
        self._stderr = stderr
        self._packets = program, preload, earlier
        self._orphans = sorted(orphans)
        module = wire.Preload.unpack(preload).module
        assert module is not None
        importlib.import_module(module.partition(":")[0])

    def serve(self, orders: wire.TakePrivileges) -> int:
        """Be its launcher, with the service's environment and standard error; return the exit status.

        The launcher's channels are where they were, and nothing of this process refers to them. Privileges
        are taken.
        """
        environment = dict(item.partition(b"=")[::2] for item in self._program.environment)
        os.environb.clear()
        os.environb.update(environment)
        for descriptor in self._stderr:
            os.dup2(descriptor, 2)
            os.close(descriptor)
        return main.main(
            *self._packets, self._orphans, orders.title, main.lent_limits(orders), prctl.is_dumpable()
        )
