"""Files of the host whose configuration is imported: below its root directory, within bounds.

Nothing is executed and nothing is written. Below another root directory, symbolic links lead to what
they would lead to after chroot(2).
"""

import errno
import functools
import os
import socket
import stat

from ucspid.errors import ConfigError
from ucspid.importers.accounts import HostAccounts
from ucspid.importers.bounds import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_LINE,
    MAX_LINKS,
    MAX_TOTAL_BYTES,
)

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Host:
    """A host's files, below root; what was read is counted."""

    def __init__(self, root: str = "/") -> None:
        """Read below root, a directory. Raises OSError if it is none."""
        self._root = os.path.realpath(root).rstrip("/")
        self._files = self._bytes = 0
        os.listdir(self._root or "/")

    @property
    def is_this_one(self) -> bool:
        """Say whether the files are those of the running system."""
        return not self._root

    def label(self, path: str) -> str:
        """Return the path by which the user finds a file."""
        return f"{self._root}/{path.lstrip('/')}" if self._root else path

    def read(self, path: str) -> bytes:
        """Return what is in a regular file. Raises OSError, ConfigError beyond the bounds."""
        self._count(path)
        place = self._find(path)
        # Without O_NONBLOCK, open(2) of a FIFO would wait for a writer.
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", self.label(path))
            data = stream.read(MAX_FILE_BYTES + 1)
        self._bytes += len(data)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError([f"{self.label(path)}: larger than {MAX_FILE_BYTES} bytes"])
        if self._bytes > MAX_TOTAL_BYTES:
            raise ConfigError([f"{self.label(path)}: more than {MAX_TOTAL_BYTES} bytes in all files"])
        return data

    def lines(self, path: str) -> list[str]:
        """Return the lines of a text, bytes that are not UTF-8 as surrogates. Raises as read() does."""
        return text_lines(self.read(path), self.label(path))

    def entries(self, path: str) -> list[str]:
        """Return the names in a directory, sorted. Raises OSError, ConfigError for too many."""
        self._count(path)
        names = sorted(os.listdir(self._find(path)))
        if len(names) > MAX_ENTRIES:
            raise ConfigError([f"{self.label(path)}: more than {MAX_ENTRIES} entries"])
        return names

    def status(self, path: str) -> os.stat_result | None:
        """Return what stat(2) says of a file, None if nothing."""
        try:
            return os.stat(self._find(path))
        except (OSError, ValueError):
            return None

    def is_file(self, path: str) -> bool:
        """Say whether a regular file is there."""
        status = self.status(path)
        return status is not None and stat.S_ISREG(status.st_mode)

    def is_directory(self, path: str) -> bool:
        """Say whether a directory is there."""
        status = self.status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def has_program(self, path: str) -> bool:
        """Say whether a path is a file that may be executed."""
        status = self.status(path)
        return status is not None and stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)

    @functools.cached_property
    def accounts(self) -> HostAccounts:
        """The host's users and groups."""
        if self.is_this_one:
            return HostAccounts(None, None)
        return HostAccounts(self._optional("/etc/passwd"), self._optional("/etc/group"))

    def port(self, name: str) -> int | None:
        """Return the number of a TCP port by its number or its name in services(5)."""
        if name.isascii() and name.isdecimal():
            return int(name) if int(name) <= 65535 else None  # noqa: PLR2004
        if not self.is_this_one:
            return self._services.get(name)
        try:
            return socket.getservbyname(name, "tcp")
        except (OSError, UnicodeError, ValueError):
            return None

    @functools.cached_property
    def _services(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for line in self._optional("/etc/services"):
            words = line.partition("#")[0].split()
            if len(words) > 1 and words[1].endswith("/tcp") and words[1][:-4].isdecimal():
                for name in (words[0], *words[2:]):
                    found.setdefault(name, int(words[1][:-4]))
        return found

    @functools.cached_property
    def hosts(self) -> dict[str, list[str]]:
        """The addresses that the host itself has for names."""
        found: dict[str, list[str]] = {}
        for line in self._optional("/etc/hosts"):
            words = line.partition("#")[0].split()
            for name in words[1:]:
                found.setdefault(name.lower(), []).append(words[0])
        return found

    def _optional(self, path: str) -> list[str]:
        try:
            return self.lines(path)
        except OSError:
            return []

    def _count(self, path: str) -> None:
        self._files += 1
        if self._files > MAX_FILES:
            raise ConfigError([f"{self.label(path)}: more than {MAX_FILES} files"])

    def _find(self, path: str) -> str:
        """Return where a file of the host is. Raises OSError for links without end."""
        if "\0" in path:
            raise OSError(errno.EINVAL, "a NUL byte in a path", self.label(path))
        if not self._root:
            return path
        ahead, found, links = _parts(path), list[str](), 0
        while ahead:
            part = ahead.pop()
            if part == "..":
                found = found[:-1]
                continue
            here = "/".join([self._root, *found, part])
            try:
                target = os.readlink(here)
            except OSError:
                found.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self.label(path))
            found = [] if target.startswith("/") else found
            ahead += _parts(target)
        return "/".join([self._root, *found])


def _parts(path: str) -> list[str]:
    """Return the parts of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in {"", "."}]


def text_lines(data: bytes, label: str) -> list[str]:
    """Return the lines of a text. Raises ConfigError for a NUL byte or a line without end."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise ConfigError([f"{label}:{number}: a NUL byte: this is not a text"])
        if len(line) > MAX_LINE:
            raise ConfigError([f"{label}:{number}: longer than {MAX_LINE} characters"])
    return [line.removesuffix("\r") for line in lines]
