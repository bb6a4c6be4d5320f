"""The pipes of services whose standard error goes to the log.

The master holds both ends, so that a pipe outlives every process that reads or writes it. When no
program of a service can be started any more, it closes the writing end: the loop reads on until the last
program has ended, and so does the pipe itself.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping

from ucspid.errors import ResourceError
from ucspid.ipc.channel import close_all
from ucspid.linux.fd_limit import why
from ucspid.plan import Service
from ucspid.records import dataclass

MODE = 0o622
"""Of a pipe: whoever has it as standard error may open /dev/stderr, also after a change of user.

Nobody else can reach it: it has no name but that, in the folder of a process, which proc(5) protects.
"""

PipeKey = tuple[str, int | None]
"""A service's name, and the user that its programs run as."""

PipeState = tuple[int, str, int | None, int, int | None]
"""The fields of a LogPipe."""

_numbers = itertools.count(1)


@dataclass(slots=True)
class LogPipe:
    """One pipe, of a service whose programs run as a user; the writing end is None when it is closed."""

    number: int
    service: str
    user: int | None
    reading: int
    writing: int | None

    @classmethod
    def open(cls, service: Service) -> "LogPipe":
        """Make the pipe of a service, which belongs to its user. Raises OSError."""
        reading, writing = os.pipe()
        try:
            os.fchmod(writing, MODE)  # before it belongs to another: that would take CAP_FOWNER
            if service.profile.uid is not None:
                os.fchown(writing, service.profile.uid, -1)
        except OSError:
            close_all((reading, writing))
            raise
        return cls(next(_numbers), *pipe_key(service), reading, writing)

    def descriptors(self) -> tuple[int, ...]:
        """Return what is open."""
        return (self.reading,) if self.writing is None else (self.reading, self.writing)

    def to_state(self) -> PipeState:
        """Return the fields, in their order."""
        return self.number, self.service, self.user, self.reading, self.writing

    def end(self) -> None:
        """Close the writing end; the programs that have it go on writing."""
        if self.writing is not None:
            os.close(self.writing)
            self.writing = None

    def close(self) -> None:
        """Close what is open."""
        close_all(self.descriptors())


class LogPipes:
    """The pipes that there are."""

    def __init__(self) -> None:
        """Hold none."""
        self._open: dict[PipeKey, LogPipe] = {}
        self.ended: list[LogPipe] = []
        """Pipes into which only programs write that run already."""

    def __iter__(self) -> Iterator[LogPipe]:
        """Yield the pipes of services, and those that end with the programs that run."""
        yield from (*self._open.values(), *self.ended)

    def of(self, service: Service, acquired: Mapping[PipeKey, LogPipe]) -> LogPipe:
        """Return the pipe of a service, which is one that was acquired, perhaps."""
        key = pipe_key(service)
        return acquired[key] if key in acquired else self._open[key]

    def acquire(self, services: Iterable[Service], acquired: dict[PipeKey, LogPipe]) -> None:
        """Make the pipes that services need and that there are not yet. Raises ResourceError."""
        for service in services:
            if service.stderr == "log" and pipe_key(service) not in self._open:
                try:
                    acquired[pipe_key(service)] = LogPipe.open(service)
                except OSError as problem:
                    raise ResourceError(f"{service.name}: no pipe for its log: {why(problem)}") from None

    def add(self, acquired: Mapping[PipeKey, LogPipe]) -> None:
        """Hold what was acquired, too."""
        self._open.update(acquired)

    def keep(self, services: Iterable[Service]) -> list[LogPipe]:
        """Close the writing ends of pipes that none of the services has; return these pipes.

        Each is to be closed as soon as nobody writes into it any more.
        """
        wanted = {pipe_key(service) for service in services if service.stderr == "log"}
        ended = [self._open.pop(old) for old in self._open.keys() - wanted]
        for pipe in ended:
            pipe.end()
        self.ended += ended
        return ended

    def close(self, pipe: LogPipe) -> None:
        """Close a pipe into which nobody writes any more."""
        self.ended.remove(pipe)
        pipe.close()

    def to_state(self) -> list[PipeState]:
        """Return what from_state() takes: for the next image of the master."""
        return [pipe.to_state() for pipe in self]

    @classmethod
    def from_state(cls, state: Iterable[PipeState]) -> "LogPipes":
        """Return what an earlier image of the master held."""
        pipes = cls()
        for item in state:
            pipe = LogPipe(*item)
            skip_numbers(pipe.number)
            if pipe.writing is None:
                pipes.ended.append(pipe)
            else:
                pipes._open[pipe.service, pipe.user] = pipe
        return pipes


def pipe_key(service: Service) -> PipeKey:
    """Return which pipe is a service's."""
    return service.name, service.profile.uid


def skip_numbers(last: int) -> None:
    """Give no pipe a number up to the last that an earlier image of the master gave."""
    while next(_numbers) < last:
        """Each is taken once."""
