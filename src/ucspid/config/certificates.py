"""python -I -m ucspid.config.certificates CONTEXTS PREVIOUS MATERIAL INOTIFY PROGRESS: look at certificates.

The master runs this, with its own rights, while a plan is in force. All arguments are descriptors: memory
with the contexts of the plan as JSON, with the material in force, and for what is found, if it is different;
an inotify, where what is looked at is watched first, so that no change falls between; and memory where it
says what it is looking at. A - stands for a PREVIOUS or an INOTIFY that is not there. Prints a
CertificatesReport as JSON. Exits 0, whatever is wrong with the files, or 111 if the system has no resources.
"""

import errno
import json
import os
import sys
from collections.abc import Sequence

from ucspid import plain
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE
from ucspid.ipc.progress import progress
from ucspid.linux import inotify
from ucspid.plan import TlsContext
from ucspid.tls.gathering import gather
from ucspid.tls.material import TlsMaterial, read, write
from ucspid.tls.report import CertificatesReport, SeenCertificate

ARGUMENTS = 5

_ENTRIES = (
    inotify.CLOSE_WRITE
    | inotify.ATTRIB
    | inotify.MOVED_FROM
    | inotify.MOVED_TO
    | inotify.CREATE
    | inotify.DELETE
)
_ITSELF = inotify.DELETE_SELF | inotify.MOVE_SELF
_GONE = (errno.ENOENT, errno.ENOTDIR)
"""What the next look at the place will report, too."""


class NotedWatches:
    """Watches by inotify, and the names that matter for each."""

    def __init__(self, queue: inotify.Inotify | None) -> None:
        """Have nothing noticed yet; without a queue nothing ever is."""
        self._queue = queue
        self.names: dict[int, set[str]] = {}
        self.unwatched: str | None = None if queue is not None else "there is no inotify"
        """Why some changes will not be noticed."""

    def entry(self, directory: str, name: str) -> None:
        """Notice when what has the name comes, goes or changes."""
        watch = self._add(directory, _ENTRIES | _ITSELF)
        if watch is not None:
            self.names[watch].add(name)

    def itself(self, directory: str) -> None:
        """Notice when the directory is gone."""
        self._add(directory, _ITSELF)

    def _add(self, directory: str, mask: int) -> int | None:
        if self._queue is None:
            return None
        try:
            watch = self._queue.add(directory, mask | inotify.ONLY_DIRECTORY)
            if not inotify.is_local(directory):
                self.unwatched = f"{directory} is on a file system that other machines may change"
        except OSError as problem:
            if problem.errno not in _GONE:
                self.unwatched = f"{directory} cannot be watched: {problem.strerror}"
            return None
        self.names.setdefault(watch, set())
        return watch


def look(
    contexts: Sequence[TlsContext], previous: TlsMaterial | None, material: int, watches: NotedWatches
) -> CertificatesReport:
    """Look at all certificates; write what is different to the descriptor. Raises OSError without memory."""
    found = gather(contexts, watches)
    problems = tuple(dict.fromkeys(fault.text for fault in found.faults))
    changed = not problems and found.material != previous
    if changed:
        write(material, found.material)
    certificates = [
        SeenCertificate(
            path=certificate.path,
            names=certificate.chain.names,
            not_after=certificate.not_after,
            fingerprint=certificate.fingerprint,
        )
        for certificate in found.certificates
    ]
    return CertificatesReport(
        changed=changed,
        problems=problems,
        certificates=tuple(certificates),
        not_after=tuple(
            min((certificates[number].not_after for number in context.chains), default=None)
            for context in found.material.contexts
        ),
        watches=tuple((watch, tuple(sorted(names))) for watch, names in watches.names.items()),
        unwatched=watches.unwatched,
    )


def main(arguments: list[str]) -> int:
    """Look, and print what was found; return the exit code."""
    if len(arguments) != ARGUMENTS:
        sys.stderr.write(
            "usage: python -I -m ucspid.config.certificates CONTEXTS PREVIOUS MATERIAL INOTIFY PROGRESS\n"
        )
        return EXIT_USAGE
    contexts, previous, material, queue, progress.descriptor = map(_number, arguments)
    assert contexts is not None
    assert material is not None
    watches = NotedWatches(None if queue is None else inotify.Inotify(queue))
    try:
        report = look(_contexts(contexts), _material(previous), material, watches)
    except OSError as problem:
        sys.stderr.write(f"{problem.strerror}\n")
        return EXIT_SYSTEM
    sys.stdout.write(plain.to_json(report))
    return 0


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


def _contexts(descriptor: int) -> list[TlsContext]:
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return [plain.read(TlsContext, item) for item in json.loads(data)]


def _material(descriptor: int | None) -> TlsMaterial | None:
    """Return the material in force; None if an earlier version has written it and it cannot be understood."""
    if descriptor is None:
        return None
    try:
        return read(descriptor)
    except (ValueError, LookupError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
