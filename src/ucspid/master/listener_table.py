"""The listeners that the master holds, and those that a new plan needs beyond them."""

import contextlib
import socket
from collections.abc import Iterable, Iterator

from ucspid.errors import ResourceError
from ucspid.linux.fd_limit import why
from ucspid.master.fdstore import Passed, name, remove, store
from ucspid.master.listeners import HeldListener, Key, address_of, keys, open_listeners, skip_numbers
from ucspid.master.unix_sockets import FileId
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Service
from ucspid.records import dataclass

ListenerState = tuple[Endpoint, str, int, int, FileId | None, int]
"""Address, service and place of a key; number, path of its own and descriptor of a listener."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A listener for both families, of which a socket for one was passed, and the other one bound."""

    service: str
    address: Endpoint
    passed: Endpoint
    bound: Endpoint


class ListenerTable:
    """Listeners by their keys. A listener for both address families may be two sockets."""

    def __init__(self, passed: Passed | None = None) -> None:
        """Hold none; passed has what the service manager has passed."""
        self._passed = passed or Passed()
        self._listeners: dict[Key, list[HeldListener]] = {}
        self._stored = False
        """Whether the service manager keeps copies."""

    def __iter__(self) -> Iterator[HeldListener]:
        """Yield every listener."""
        for its_listeners in self._listeners.values():
            yield from its_listeners

    def of(self, service: Service) -> list[HeldListener]:
        """Return a service's listeners; none when the daemon stops."""
        return [item for key in keys(service) for item in self._listeners.get(key, ())]

    def acquire(
        self, services: Iterable[Service], acquired: dict[Key, list[HeldListener]]
    ) -> list[Completed]:
        """Open what services listen on and is not held yet, adding it to what is acquired.

        Return those that were passed in part only. Raises ResourceError.
        """
        completed = []
        for service in services:
            for key in keys(service):
                if key not in self._listeners:
                    stored = self._passed.has_stored(key)
                    passed = self._passed.take(key)
                    acquired[key] = self._open(service, key[0], passed, stored=stored)
                    if passed and len(acquired[key]) > len(passed):
                        its, other = (address_of(item.sock) for item in acquired[key])
                        completed.append(Completed(service.name, key[0], its, other))
        return completed

    def _open(
        self, service: Service, address: Endpoint, passed: list[socket.socket], *, stored: bool
    ) -> list[HeldListener]:
        try:
            return open_listeners(service, address, passed, stored=stored)
        except OSError as problem:
            text = f"{service.name}: cannot listen on {address}: {why(problem)}"
            if others := self._passed.at_port(address.port):
                text += f". The service manager has passed a socket for {others[0]}, which no service has"
            raise ResourceError(text) from None

    def add(self, acquired: dict[Key, list[HeldListener]]) -> list[str]:
        """Add what was acquired; close passed sockets that no service has, and return their addresses."""
        self._listeners.update(acquired)
        unwanted = self._passed.close()  # first: the store forgets by name, and what is new may have the same
        self._stored = store(acquired.items()) or self._stored
        return unwanted

    def set_up(self, services: Iterable[Service]) -> None:
        """Give the listeners of services the options that these have; one that refuses them listens on."""
        for service in services:
            for listening in self.of(service):
                with contextlib.suppress(OSError):
                    listening.set_up(service)

    def keep(self, services: Iterable[Service]) -> None:
        """Close the listeners that none of the services has, here and in the store."""
        gone = self._listeners.keys() - {key for service in services for key in keys(service)}
        self._close(gone)
        remove(map(name, gone))

    def close(self) -> None:
        """Close them all: the daemon stops.

        Not in the store: if the service manager starts the daemon again, clients wait there meanwhile; if
        it does not, it closes what it has. So paths stay then, for the clients who come meanwhile.
        """
        self._close([*self._listeners], keep_paths=self._stored)

    def _close(self, old: Iterable[Key], *, keep_paths: bool = False) -> None:
        for key in old:
            for listening in self._listeners.pop(key):
                listening.close(keep_path=keep_paths)

    def to_state(self) -> list[ListenerState]:
        """Return what from_state() takes: for the next image of the master."""
        return [
            (address, service, place, listening.number, listening.file, listening.sock.fileno())
            for (address, service, place), its_listeners in self._listeners.items()
            for listening in its_listeners
        ]

    @classmethod
    def from_state(cls, state: list[ListenerState]) -> "ListenerTable":
        """Return what an earlier image of the master held."""
        table = cls()
        for address, service, place, number, file, descriptor in state:
            key = address, service, place
            listening = HeldListener(number, socket.socket(fileno=descriptor), file)
            table._listeners.setdefault(key, []).append(listening)
            skip_numbers(number)
        return table
