"""What a new plan needs that is not held yet."""

import os
import socket
from collections.abc import Callable

from ucspid.master.control_sockets import close_control
from ucspid.master.held_tls import HeldTls
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.listener_table import Completed
from ucspid.master.listeners import HeldListener, Key
from ucspid.master.log_pipes import LogPipe, PipeKey
from ucspid.master.programs import HeldProgram
from ucspid.plan import LauncherKey, LauncherKind
from ucspid.records import dataclass, field

StartProfile = Callable[[LauncherKey, list[HeldProgram], str, LauncherKind], ProfileLaunchers]
"""Starts a profile's first launcher, given the programs and the names of its services for ps(1)."""


@dataclass(slots=True)
class Acquired:
    """It is released again if the plan cannot be put in force."""

    listeners: dict[Key, list[HeldListener]] = field(default_factory=dict)
    completed: list[Completed] = field(default_factory=list)
    control: dict[str, socket.socket] = field(default_factory=dict)
    profiles: dict[LauncherKey, ProfileLaunchers] = field(default_factory=dict)
    stderr: dict[PipeKey, LogPipe] = field(default_factory=dict)
    tls: list[HeldTls] = field(default_factory=list)
    """The TLS processes that are to have the plan's certificates: new ones, or those that there are."""
    tls_number: int = 0
    """The number by which they were sent them."""
    material: int | None = None
    """Memory with the certificates that were read with the plan; None if no file was read."""

    @property
    def ready(self) -> bool:
        """Whether every new profile has a launcher at work, and every TLS process the certificates."""
        profiles = all(profile.ready for profile in self.profiles.values())
        return profiles and all(process.ready for process in self.tls)

    def take_material(self) -> int | None:
        """Return material, which is the caller's from now on."""
        material, self.material = self.material, None
        return material

    def close_material(self) -> None:
        """Close material, unless it was taken."""
        if (material := self.take_material()) is not None:
            os.close(material)

    def release(self) -> None:
        """Give everything back."""
        self.close_material()
        for listeners in self.listeners.values():
            for listening in listeners:
                listening.close()
        for path, sock in self.control.items():
            close_control(path, sock)
        for profile in self.profiles.values():
            profile.dismiss()
        for pipe in self.stderr.values():
            pipe.close()
