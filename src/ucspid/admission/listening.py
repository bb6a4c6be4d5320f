"""The listeners of a service: in the event loop while it accepts, out of it while clients are to wait."""

import asyncio
from collections.abc import Callable, Iterator

from ucspid.admission.listener import Listener


class Listening:
    """Listeners that are opened and closed together, and take turns."""

    __slots__ = ("_readable", "listeners")

    def __init__(self, readable: Callable[[Listener], None]) -> None:
        """Begin without any; readable() is called when a client waits at one that is open."""
        self.listeners: list[Listener] = []
        self._readable = readable

    def change(self, listeners: list[Listener]) -> None:
        """Have these listeners from now on, and no others; they are closed."""
        self.close()
        self.listeners = listeners

    def in_turn(self) -> Iterator[Listener]:
        """Yield each once; each is the first in its turn."""
        for _ in range(len(self.listeners)):
            self.listeners.append(self.listeners.pop(0))
            yield self.listeners[-1]

    def open(self) -> None:
        """Watch for clients in the event loop."""
        loop = asyncio.get_running_loop()
        for listener in self.listeners:
            if not listener.armed:
                listener.armed = True
                loop.add_reader(listener.sock, self._readable, listener)

    def close(self) -> None:
        """Stop watching: clients stay in the kernel's backlog and wake nothing up."""
        loop = asyncio.get_running_loop()
        for listener in self.listeners:
            if listener.armed:
                listener.armed = False
                loop.remove_reader(listener.sock)
