"""Resource limits of other servers, where a launcher may live under them, and where not."""

import resource

from ucspid.config.forms import Descriptors, Limit, MemorySize, StackSize
from ucspid.importers.description import Imported, SourceLine

_LEAST: dict[str, type[Limit]] = {
    "as": MemorySize, "data": MemorySize, "nofile": Descriptors, "stack": StackSize,
}  # fmt: skip
_SIZES = {"as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack"}
_UNITS = ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k"))
PRLIMIT = "/usr/bin/prlimit"


def is_too_small(name: str, value: int) -> bool:
    """Say whether a launcher could not live under a limit."""
    return name in _LEAST and value < _LEAST[name].least


def changes_nothing(name: str, value: int) -> bool:
    """Say whether a process has such a limit anyway: softlimit and others do not raise it."""
    hard: int = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return hard != resource.RLIM_INFINITY and value >= hard


def set_limit(service: Imported, place: SourceLine, name: str, value: int | None) -> None:
    """Set a limit by its name in ucspid's file, None for infinity.

    One that a launcher could not live under is set by prlimit(1) in front of the program.
    """
    if value is None or not is_too_small(name, value):
        service.settings.setdefault("rlimits", {})[name] = written(name, value)
    elif "argv0" in service.settings or "program" not in service.settings:
        service.note(
            place,
            f"the limit {name} of {value} is less than a launcher needs, which lives under it too",
            "set it in a script that executes the program",
        )
    else:
        program = service.settings["program"]
        service.settings["program"] = [PRLIMIT, f"--{name}={value}", *program]
        service.remark(
            f"A launcher could not live under so small a limit {name}: prlimit sets it for the program."
        )


def written(name: str, value: int | None) -> str | int:
    """Return a limit as the file writes it."""
    if value is None:
        return "infinity"
    for factor, unit in _UNITS if name in _SIZES else ():
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return value
