"""The pipes of services whose standard error goes to the log.

The master holds both ends, so that a pipe outlives every process that reads or writes it. When no
program of a service can be started any more, it closes the writing end: the loop reads on until the last
program has ended, and so does the pipe itself.
"""

import itertools
import os
from dataclasses import dataclass

from ucspid.ipc.channel import close_all
from ucspid.plan import Service

MODE = 0o622
"""Of a pipe: whoever has it as standard error may open /dev/stderr, also after a change of user.

Nobody else can reach it: it has no name but that, in the folder of a process, which proc(5) protects.
"""

PipeKey = tuple[str, int | None]
"""A service's name, and the user that its programs run as."""

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
            if service.profile.uid is not None:
                os.fchown(writing, service.profile.uid, -1)
            os.fchmod(writing, MODE)
        except OSError:
            close_all((reading, writing))
            raise
        return cls(next(_numbers), *pipe_key(service), reading, writing)

    def descriptors(self) -> tuple[int, ...]:
        """Return what is open."""
        return (self.reading,) if self.writing is None else (self.reading, self.writing)

    def end(self) -> None:
        """Close the writing end; the programs that have it go on writing."""
        if self.writing is not None:
            os.close(self.writing)
            self.writing = None

    def close(self) -> None:
        """Close what is open."""
        close_all(self.descriptors())


def pipe_key(service: Service) -> PipeKey:
    """Return which pipe is a service's."""
    return service.name, service.profile.uid


def skip_numbers(last: int) -> None:
    """Give no pipe a number up to the last that an earlier image of the master gave."""
    while next(_numbers) < last:
        """Each is taken once."""
