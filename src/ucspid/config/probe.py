"""Looking at programs and files with exactly the rights that a service or the event loop will have.

A child is forked for each privilege profile, takes it with the launcher's own function and
looks at the files. The reader has no threads, so forking it is safe. Limits are tried in a
child of their own: one that fits a launcher may be too small for the reader to go on under it.
"""

import errno
import json
import os
import stat
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from ucspid.ipc.progress import progress
from ucspid.linux import privileges
from ucspid.profile import Profile
from ucspid.records import dataclass

KEYS = {"root": "chroot", "cwd": "chdir", "gid": "group", "uid": "user"}
"""Keys of the file for fields of Profile that have another name."""

DENIED = "permission denied"
REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: DENIED,
    errno.ENOTDIR: "a part of the path is not a directory",
}
LOST = "the child that looked died"


@dataclass(frozen=True, slots=True)
class ProbeRefusal:
    """A privilege that the system refuses: the setting, and why."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Search:
    """The files to look for, the first of which that there is is taken; access(2) says what for.

    With none, only the privileges are tried.
    """

    candidates: tuple[str, ...]
    access: int = os.X_OK


FoundFile = tuple[str | None, str]
"""The file found; or None and why there is none, nothing if that cannot be said."""


def find(profile: Profile, searches: Sequence[Search]) -> tuple[list[FoundFile], list[ProbeRefusal]]:
    """Return for each search the first candidate that the profile's user can use, or why none is.

    What the system refuses of the profile is returned too; the search goes on with the rest of it
    as far as it still says something. Raises OSError where no child can be made.
    """
    lost = {"refused": [("program", LOST)], "found": [(None, "")] * len(searches)}
    refused: list[tuple[str, str]] = []
    if profile.rlimits:
        limits = Profile(rlimits=profile.rlimits)
        refused += in_child(lambda: _take(limits), lost=lost["refused"])
    answer = in_child(lambda: _look(profile, searches), lost=lost)
    refused += answer["refused"]
    return [(path, why) for path, why in answer["found"]], [ProbeRefusal(key, why) for key, why in refused]


def _look(profile: Profile, searches: Sequence[Search]) -> dict[str, Any]:
    refused = _take(profile.changed(rlimits=()))
    keys = {key for key, _ in refused}
    return {"refused": refused, "found": [_first(each, keys) for each in searches]}


def _take(profile: Profile) -> list[tuple[str, str]]:
    """Take privileges in the order of a launcher; return those refused, by their keys, and why."""

    def begins(field: str) -> None:
        value = getattr(profile, field, None)
        progress.at(value if isinstance(value, str) else _key(field))

    return [(_key(item.field), str(item)) for item in privileges.attempt(profile, begins)]


def _key(field: str) -> str:
    return KEYS.get(field, field)


def _first(search: Search, refused: Collection[str]) -> FoundFile:
    candidates = search.candidates
    if not candidates or "chroot" in refused or ("chdir" in refused and not candidates[0].startswith("/")):
        return None, ""
    whys = []
    for path in candidates:
        why = _obstacle(path, search.access)
        if why is None:
            return path, ""
        if why != REASONS[errno.ENOENT] or len(candidates) == 1:
            whys.append(f"{path}: {why}")
    return None, "; ".join(whys) or f"{Path(candidates[0]).name}: not found in PATH"


def _obstacle(path: str, access: int) -> str | None:
    """Return why the file cannot be used; None if it can."""
    progress.at(path)
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        return REASONS.get(error.errno or 0, error.strerror)
    except ValueError as error:
        return str(error)
    if not stat.S_ISREG(mode):
        return "a directory" if stat.S_ISDIR(mode) else "not a regular file"
    if os.access(path, access, effective_ids=True):
        return None
    return "not executable" if access == os.X_OK else "not readable"


def in_child(work: Callable[[], Any], *, lost: Any) -> Any:
    """Return what work returns in a forked child, through JSON; lost if the child dies over it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            _write_all(writer, json.dumps(work()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(answer) if status == 0 else lost


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
