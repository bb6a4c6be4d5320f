"""Listeners that outlive the master: the service manager's descriptor store and its socket units.

systemd keeps descriptors that a service sends it (sd_notify(3), FDSTORE=1) and passes them to the
next process of the service, as it passes the sockets of a .socket unit (sd_listen_fds(3)). So a
master that follows one that was killed has the same listeners, with the clients who wait there.
"""

import contextlib
import os
import socket
from collections.abc import Iterable

from ucspid.master.listeners import FAMILIES, HeldListener, Key, address_of, halves, listens_on
from ucspid.master.notify import notify
from ucspid.net.endpoint import Endpoint

FIRST = 3
"""The number of the first descriptor passed: SD_LISTEN_FDS_START."""

SEND_SECONDS = 1.0
"""Seconds that the service manager may take to take something: no more are offered if it takes longer."""

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def name(key: Key) -> str:
    """Return a listener's name in the store: FDNAME is in ASCII, and may have no colon in it."""
    address, service, place = key
    whose = f" {service} {place}" if address.chosen else ""
    return "".join(each if " " <= each <= "~" and each != ":" else "_" for each in f"{address}{whose}")


def store(listeners: Iterable[tuple[Key, list[HeldListener]]]) -> bool:
    """Have the service manager keep listeners; return whether it has taken some and refused none.

    What it has already it keeps once.
    """
    stored = False
    for key, its_listeners in listeners:
        for listening in its_listeners:
            lines = "FDSTORE=1", f"FDNAME={name(key)}"
            if not notify(*lines, descriptors=(listening.sock.fileno(),), timeout=SEND_SECONDS):
                return False
            stored = True
    return stored


def remove(names: Iterable[str]) -> None:
    """Make the service manager close its copies of listeners; else they would stay open."""
    for item in names:
        if not notify("FDSTOREREMOVE=1", f"FDNAME={item}", timeout=SEND_SECONDS):
            return


class Passed:
    """Sockets that the service manager has passed, until services take them."""

    def __init__(self, sockets: list[tuple[str, socket.socket]] | None = None) -> None:
        """Own sockets and their names."""
        self._sockets = sockets or []

    @classmethod
    def from_environment(cls) -> "Passed":
        """Take what the environment says was passed, out of the environment, too."""
        pid, count, names = (os.environ.pop(variable, "") for variable in _VARIABLES)
        if pid != str(os.getpid()) or not count.isdecimal():
            return cls()
        sockets = []
        named = names.split(":")
        for place in range(int(count)):
            with contextlib.suppress(OSError):  # it is no socket, and nothing that we have use for
                sock = socket.socket(fileno=FIRST + place)
                sock.set_inheritable(False)
                sockets.append((named[place] if place < len(named) else "", sock))
        return cls(sockets)

    def has_stored(self, key: Key) -> bool:
        """Return whether a socket is there that an earlier master had stored as this listener."""
        return any(its_name == name(key) for its_name, _sock in self._sockets)

    def take(self, key: Key) -> list[socket.socket]:
        """Return the socket that is this listener, if there is one; with port 0 its name says so.

        That is the one in the store, or the name of the service: FileDescriptorName= of a socket unit.

        For both families it may be two, or one that is for one of them.
        """
        address = key[0]
        whole = self._take(key, address)
        if whole is not None or address.family != "dual":
            return [] if whole is None else [whole]
        return [sock for half in halves(address) if (sock := self._take(key, half)) is not None]

    def _take(self, key: Key, address: Endpoint) -> socket.socket | None:
        for place, (its_name, sock) in enumerate(self._sockets):
            if listens_on(sock, address) and (not address.chosen or its_name in (name(key), key[1])):
                del self._sockets[place]
                return sock
        return None

    def at_port(self, port: int) -> list[Endpoint]:
        """Return the addresses of TCP sockets of a port that no service has taken."""
        addresses = [address_of(sock) for _name, sock in self._sockets if sock.family in FAMILIES]
        return [address for address in addresses if address.family != "unix" and address.port == port]

    def close(self) -> list[str]:
        """Close what no service has taken, here and in the store; return the addresses."""
        unwanted, self._sockets = self._sockets, []
        remove(its_name for its_name, _sock in unwanted)
        described = []
        for its_name, sock in unwanted:
            with sock:
                described.append(str(address_of(sock)) if sock.family in FAMILIES else its_name)
        return described
