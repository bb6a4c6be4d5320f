"""The keys of `rlimits`: see schema.py."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec import field as key

from ucspid.config.forms import Descriptors, Limit, MemorySize, Size, StackSize


class Rlimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Resource limits, setrlimit(2), by its names in lower case without RLIMIT_.

    Each sets the soft and the hard limit, except cpu. They also limit the launcher that starts the programs,
    except cpu.
    """

    as_: Annotated[MemorySize | None, Meta(description="Address space.")] = key(default=None, name="as")
    core: Annotated[Size | None, Meta(description="Size of a core file.")] = None
    cpu: Annotated[
        Limit | None, Meta(description="Seconds of CPU time of one process; the soft limit only.")
    ] = None
    data: Annotated[MemorySize | None, Meta(description="Size of a process's data.")] = None
    fsize: Annotated[Size | None, Meta(description="Size of a file that is written.")] = None
    memlock: Annotated[Size | None, Meta(description="Memory locked into RAM.")] = None
    msgqueue: Annotated[Size | None, Meta(description="POSIX message queues of the user.")] = None
    nice: Annotated[Limit | None, Meta(description="How far nice may be lowered: 20 minus it.")] = None
    nofile: Annotated[Descriptors | None, Meta(description="Open descriptors.")] = None
    nproc: Annotated[
        Limit | None, Meta(description="Processes of the user, those of other services too.")
    ] = None
    rss: Annotated[Size | None, Meta(description="Resident memory; without effect on Linux.")] = None
    rtprio: Annotated[Limit | None, Meta(description="Real-time priority.")] = None
    rttime: Annotated[
        Limit | None, Meta(description="Microseconds of real-time CPU without a system call.")
    ] = None
    sigpending: Annotated[Limit | None, Meta(description="Signals queued for the user.")] = None
    stack: Annotated[StackSize | None, Meta(description="Size of the stack.")] = None
