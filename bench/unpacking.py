"""A Debian package unpacked for one run and not installed: for one that cannot be beside another."""

import functools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT = 30
_IMPATIENT = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=5", "-o", "Acquire::https::Timeout=5"]
"""For apt-get: without a network the bench is to go on soon."""


@dataclass(frozen=True)
class Unpacked:
    """The path of a program of a package, or why there is none."""

    path: str = ""
    absent: str | None = None


@functools.cache
def unpacked(package: str, program: str, folder: Path) -> Unpacked:
    """Download a package with apt-get and unpack it below a folder; program is its path in the package.

    Tried once in a run. What the package depends on is not looked after: a program that lacks a
    library ends at once, and that is said.
    """
    place = folder / package
    place.mkdir()
    problem = _fails([*_apt_get(), "download", package], place)
    return Unpacked(absent=problem) if problem else unpack(place, program)


def unpack(place: Path, program: str) -> Unpacked:
    """Unpack the package file that lies in a folder, into that folder."""
    problem = _fails(["dpkg", "-x", *map(str, place.glob("*.deb")), str(place)], place)
    if problem is None and not (place / program).is_file():
        problem = f"the package has no {program}"
    return Unpacked(absent=problem) if problem else Unpacked(str(place / program))


def _apt_get() -> list[str]:
    return ["apt-get", "-qq", *_IMPATIENT]


def _fails(command: list[str], folder: Path) -> str | None:
    """Return why a command cannot be carried out in a folder, or None if it was."""
    if shutil.which(command[0]) is None:
        return f"it is not installed, and without {command[0]} it cannot be unpacked"
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it is not installed, and {command[0]} took too long"
    if done.returncode == 0:
        return None
    said = (done.stderr.strip() or f"exit {done.returncode}").splitlines()[0]
    return f"it is not installed, and {command[0]} says: {said}"
