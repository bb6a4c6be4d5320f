"""Looking at programs and files with exactly the rights that a service or the event loop will have.

A child is forked for each privilege profile, takes it with the launcher's own function and
looks at the files. The reader has no threads, so forking it is safe. Limits are tried in a
child of their own: one that fits a launcher may be too small for the reader to go on under it.
"""

import errno
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ucspid.linux import privileges
from ucspid.plan import Profile

LEFT_ALONE: dict[str, Any] = {
    "uid": None,
    "gid": None,
    "groups": None,
    "umask": None,
    "cwd": None,
    "root": None,
    "nice": None,
    "rlimits": [],
}
REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "permission denied",
    errno.ENOTDIR: "a part of the path is not a directory",
}
LOST = "the child that looked died"


class Refused(Exception):  # noqa: N818
    """The system refuses a privilege; key is the setting, and the text says why."""

    def __init__(self, key: str, text: str) -> None:
        """Keep the key."""
        super().__init__(text)
        self.key = key


def find(profile: Profile, searches: Sequence[Sequence[str]]) -> list[tuple[str | None, str]]:
    """Return for each search the first candidate that the profile's user can execute, and why none is.

    Raises Refused where the profile cannot be taken, OSError where no child can be made.
    """
    if profile.rlimits:
        _check(in_child(lambda: _refused(_limit_steps(profile)), lost=None))
    answer = in_child(
        lambda: _refused(_other_steps(profile)) or [_first(each) for each in searches], lost=LOST
    )
    _check(answer)
    return [(path, why) for path, why in answer]


def _check(answer: Any) -> None:
    if answer == LOST:
        raise Refused("program", LOST)
    if isinstance(answer, dict):
        raise Refused(answer["key"], answer["text"])


def _limit_steps(profile: Profile) -> list[tuple[str, dict[str, Any]]]:
    return [(f"rlimits.{name}", {"rlimits": [(name, value)]}) for name, value in profile.rlimits]


def _other_steps(profile: Profile) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("nice", {"nice": profile.nice}),
        ("chroot", {"root": profile.root}),
        ("chdir", {"cwd": profile.cwd}),
        ("groups", {"groups": None if profile.groups is None else list(profile.groups)}),
        ("group", {"gid": profile.gid}),
        ("user", {"uid": profile.uid}),
    ]


def _refused(steps: list[tuple[str, dict[str, Any]]]) -> dict[str, str] | None:
    """Take one privilege after the other, in the order of a launcher; return the first refused."""
    for key, step in steps:
        try:
            privileges.take(**{**LEFT_ALONE, **step})
        except (OSError, ValueError) as error:  # setrlimit's EPERM and EINVAL come as ValueError
            where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return {"key": key, "text": f"{where}{reason}"}
    return None


def _first(candidates: Sequence[str]) -> tuple[str | None, str]:
    whys = []
    for path in candidates:
        why = _obstacle(path)
        if why is None:
            return path, ""
        if why != REASONS[errno.ENOENT] or len(candidates) == 1:
            whys.append(f"{path}: {why}")
    return None, "; ".join(whys) or f"{Path(candidates[0]).name}: not found in PATH"


def _obstacle(path: str) -> str | None:
    """Return why the file cannot be executed; None if it can."""
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        return REASONS.get(error.errno or 0, error.strerror)
    except ValueError as error:
        return str(error)
    if not stat.S_ISREG(mode):
        return "a directory" if stat.S_ISDIR(mode) else "not a regular file"
    return None if os.access(path, os.X_OK, effective_ids=True) else "not executable"


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
