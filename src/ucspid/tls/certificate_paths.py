"""Where the files of certificates are: symbolic links followed, patterns expanded, and what to watch for it.

What is looked at is first said to a Watching, so that no change falls between a look and the watch for it.
"""

import errno
import fnmatch
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from ucspid.ipc.progress import progress
from ucspid.plan import CertificateFiles
from ucspid.records import dataclass

MAX_FILE = 1 << 20
"""Bytes of one file."""
MAX_LINKS = 40
"""Symbolic links on the way to one file, as of Linux."""
MAX_MATCHES = 1000
"""Files and directories that one pattern may match."""

CHAIN = "fullchain.pem"
KEY = "privkey.pem"
NO_CERTIFICATE = "README"
"""A file that certbot has beside the directories of its certificates."""


class Watching(Protocol):
    """Has it noticed when something changes."""

    def entry(self, directory: str, name: str) -> None:
        """Notice when what has the name, which may be a pattern, comes, goes or changes."""

    def itself(self, directory: str) -> None:
        """Notice when the directory is gone."""


class NotWatching:
    """For a single look."""

    def entry(self, directory: str, name: str) -> None:
        """Do nothing."""

    def itself(self, directory: str) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Located:
    """A file or a directory: its path as it was written, and that without symbolic links."""

    shown: str
    real: str

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return os.path.isdir(self.real)


@dataclass(frozen=True, slots=True)
class PairFiles:
    """The file of a chain, and that of its key, which may be the same."""

    chain: Located
    key: Located


def is_pattern(path: str) -> bool:
    """Return whether a path stands for all that it matches."""
    return any(character in path for character in "*?[")


def pairs(files: CertificateFiles, watching: Watching) -> list[PairFiles]:
    """Return the files that are meant. Raises OSError, with the path, for one that is not there."""
    if files.key is not None:
        return [PairFiles(_located(files.path, watching), _located(files.key, watching))]
    if not is_pattern(files.path):
        found = _located(files.path, watching)
        return [_in_directory(found, watching) if found.is_directory else PairFiles(found, found)]
    result = []
    for match in _matches(files.path, watching):
        if match.is_directory:
            result += _perhaps_in_directory(match, watching)
        elif os.path.basename(match.shown) != NO_CERTIFICATE:
            result.append(PairFiles(match, match))
    return result


def locate(path: str, watching: Watching) -> Located:
    """Return where a file is. Raises OSError, with the path, if it is not there."""
    return _located(path, watching)


def read_file(file: Located) -> bytes:
    """Return what is in a file. Raises OSError, with the path as it was written."""
    progress.at(file.real)
    try:
        descriptor = os.open(file.real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "is not a regular file")
            data = b""
            while len(data) <= MAX_FILE and (more := os.read(descriptor, MAX_FILE + 1 - len(data))):
                data += more
        finally:
            os.close(descriptor)
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, file.shown) from None
    if len(data) > MAX_FILE:
        raise OSError(errno.EFBIG, f"has more than {MAX_FILE} bytes", file.shown)
    return data


def _located(path: str, watching: Watching) -> Located:
    progress.at(path)
    return Located(path, _follow("/", path.split("/"), watching, _Links(), path))


def _in_directory(directory: Located, watching: Watching) -> PairFiles:
    def inside(name: str) -> Located:
        shown = os.path.join(directory.shown, name)
        return Located(shown, _follow(directory.real, [name], watching, _Links(), shown))

    return PairFiles(inside(CHAIN), inside(KEY))


def _perhaps_in_directory(directory: Located, watching: Watching) -> list[PairFiles]:
    """Return the pair of a directory that a pattern matches; none if it has neither of the files."""
    try:
        return [_in_directory(directory, watching)]
    except FileNotFoundError:
        for name in (CHAIN, KEY):
            watching.entry(directory.real, name)
        if any(os.path.lexists(os.path.join(directory.real, name)) for name in (CHAIN, KEY)):
            raise
        return []


def _matches(path: str, watching: Watching) -> list[Located]:
    """Return what a pattern matches, sorted."""
    progress.at(path)
    found = [Located("/", "/")]
    for component in path.split("/"):
        if not component:
            continue
        found = [
            Located(os.path.join(place.shown, name), real)
            for place in found
            for name, real in _below(place, component, watching)
        ]
        if len(found) > MAX_MATCHES:
            raise OSError(errno.E2BIG, f"matches more than {MAX_MATCHES} files", path)
    return found


def _below(place: Located, component: str, watching: Watching) -> Iterator[tuple[str, str]]:
    """Yield what matches one component of a pattern; what is not there any more does not."""
    names = [component]
    if is_pattern(component):
        if not place.is_directory:
            return
        watching.entry(place.real, component)
        names = sorted(fnmatch.filter(os.listdir(place.real), component))
        names = [name for name in names if component.startswith(".") or not name.startswith(".")]
    for name in names:
        shown = os.path.join(place.shown, name)
        try:
            yield name, _follow(place.real, [name], watching, _Links(), shown)
        except (FileNotFoundError, NotADirectoryError):
            continue


class _Links:
    """How many symbolic links may still be followed."""

    def __init__(self) -> None:
        self._left = MAX_LINKS

    def take(self, path: str) -> None:
        if not self._left:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        self._left -= 1


def _follow(directory: str, components: list[str], watching: Watching, links: _Links, shown: str) -> str:
    """Return the real path of what is below a real directory, by the components of a path.

    Raises OSError, with the path shown.
    """
    for component in components:
        if component in ("", "."):
            continue
        if component == "..":
            directory = os.path.dirname(directory)
            continue
        try:
            directory = _enter(directory, component, watching, links, shown)
        except OSError as problem:
            raise type(problem)(problem.errno, problem.strerror, shown) from None
    return directory


def _enter(directory: str, name: str, watching: Watching, links: _Links, shown: str) -> str:
    path = os.path.join(directory, name)
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        is_directory = False
    if not is_directory:
        watching.entry(directory, name)
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        watching.itself(path)
    if not stat.S_ISLNK(mode):
        return path
    links.take(shown)
    target = os.readlink(path)
    start = "/" if target.startswith("/") else directory
    return _follow(start, target.split("/"), watching, links, shown)
