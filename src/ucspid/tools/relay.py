"""A program's descriptors 0 and 1 through a copier: what recordio and fixcrio have in common.

The program keeps this process and its exit status; its child copies.
"""

from __future__ import annotations

import os
import select

from ucspid.tools.messages import EXIT_USAGE, ToolError, system_error
from ucspid.tools.process import environment, execute, ignore_sigpipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Conversion = Callable[[bytes], bytes]
    """What a piece of a stream becomes; called with nothing at the end of the stream."""


class Direction:
    """One of the two: at most one piece of the stream is on its way."""

    def __init__(self, source: int, target: int, convert: Conversion, piece: int) -> None:
        """Copy from source to target in pieces of so many bytes, not over PIPE_BUF when converted."""
        self.source, self.target = source, target
        self._convert = convert
        self._piece = piece
        self._waiting = b""
        self.ended = False

    def waits_for(self) -> tuple[int, int] | None:
        """Return the descriptor and the event of poll(2) that it goes on with."""
        if self.ended:
            return None
        return (self.target, select.POLLOUT) if self._waiting else (self.source, select.POLLIN)

    def go_on(self) -> None:
        """Read or write once. Raises OSError if nothing can be written."""
        if self._waiting:
            self._waiting = self._waiting[os.write(self.target, self._waiting) :]
            return
        try:
            data = os.read(self.source, self._piece)
        except OSError:
            data = b""
        self._waiting = self._convert(data)
        self.ended = not data


def copy_both(incoming: Direction, outgoing: Direction) -> None:
    """Copy until the program closes its output or somebody no longer reads.

    The end of what comes in is passed on; what goes out goes on.
    """
    try:
        while not outgoing.ended:
            poll = select.poll()
            ways = {}
            for way in (incoming, outgoing):
                waits = way.waits_for()
                if waits is not None:
                    poll.register(*waits)
                    ways[waits[0]] = way
            for descriptor, _events in poll.poll():
                ways[descriptor].go_on()
                if descriptor == 0 and incoming.ended:
                    os.close(incoming.target)
    except OSError:
        return


def run_through(
    name: bytes, argv: list[bytes], into: Conversion, out_of: Conversion, piece: int
) -> ToolError:
    """Become the program argv[1], with a child that copies to and from it; return why that failed."""
    fatal = name + b": fatal: "
    if len(argv) < 2:  # noqa: PLR2004 - at least the program
        return ToolError(EXIT_USAGE, name, b": usage: ", name, b" program [ arg ... ]")
    try:
        to_program, from_program = os.pipe(), os.pipe()
    except OSError as error:
        return system_error(error, fatal, b"unable to create pipe: ")
    try:
        child = os.fork()
    except OSError as error:
        return system_error(error, fatal, b"unable to fork: ")
    if not child:
        ignore_sigpipe()
        os.close(to_program[0])
        os.close(from_program[1])
        incoming = Direction(0, to_program[1], into, piece)
        copy_both(incoming, Direction(from_program[0], 1, out_of, piece))
        os._exit(0)
    for descriptor, end in enumerate((to_program[0], from_program[1])):
        os.dup2(end, descriptor)
        os.set_inheritable(descriptor, True)  # also where the end already was this descriptor
    failure = execute(argv[1], argv[1:], environment())
    return system_error(failure, fatal, b"unable to run ", argv[1], b": ")
