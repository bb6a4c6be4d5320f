"""Which changes in the file system may make another file stand at a path, as inotify(7) reports them.

A path is watched as a whole, through symbolic links: the file; the directory that it is in; those in
which a link stands, or nothing yet; and of all other directories on it whether they move or go. So
a file that is renamed into place, a link that points elsewhere, and a directory that appears later
are all seen, and what else happens in a busy directory on the way, /tmp say, wakes nobody up. The
kernel queues an event before the system call returns that makes it: whoever looks at the queue
after accept(2) knows of each change that was made before the client connected.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Iterable
from typing import Protocol

from ucspid.linux import inotify
from ucspid.linux.inotify import Inotify, InotifyEvent
from ucspid.records import dataclass, field

PAUSE = 1.0
"""Seconds after a wake-up for which no other event wakes the loop up: a busy directory costs no more."""

MAX_LINKS = 40
"""Symbolic links on a path, as for the kernel: path_resolution(7)."""

MAX_EVENTS = 20_000
"""Events that are read at once, more than kernels queue by default: of more it is taken that
they mattered to everybody."""

MAX_MISSED = 1000
"""Events that are remembered during a check: if there are more, the file counts as changed."""

_MOVES = inotify.MOVE_SELF | inotify.DELETE_SELF | inotify.ATTRIB | inotify.ONLY_DIRECTORY
"""Of a directory on the way."""
_NAMES = inotify.CREATE | inotify.DELETE | inotify.MOVED_FROM | inotify.MOVED_TO | inotify.ATTRIB
_LAST_NAMES = _NAMES | inotify.CLOSE_WRITE
_FILE = inotify.MODIFY | inotify.CLOSE_WRITE | inotify.ATTRIB | inotify.DELETE_SELF
_WRITING = inotify.MODIFY | inotify.CREATE
"""Events after which a file may be half written."""
_WHOLE = inotify.IGNORED | inotify.OVERFLOW
"""Events that concern a watch as a whole, whatever its names."""

WatchedName = tuple[int, bytes]
"""The number of a watch, and a name in that directory; empty for the file itself."""


@dataclass(frozen=True, slots=True)
class Trail:
    """The places that a path leads through; complete if each change of it is an event at one of them."""

    places: frozenset[WatchedName] = frozenset()
    complete: bool = False


class Watched(Protocol):
    """What is notified of changes."""

    def changed(self, *, finished: bool) -> None:
        """Another file may be there; not finished: whoever writes it may not have closed it yet."""


@dataclass(eq=False, slots=True)
class Look:
    """A look that is under way, and the events that came meanwhile: it may have been too early for them."""

    missed: set[WatchedName] = field(default_factory=set)
    overflowed: bool = False

    def note(self, event: InotifyEvent) -> None:
        """Keep in mind that this has happened."""
        if event.mask & inotify.OVERFLOW or len(self.missed) == MAX_MISSED:
            self.overflowed = True
        else:
            self.missed.add((event.watch, b"" if event.mask & _WHOLE else event.name))

    def was_too_early(self, trail: Trail) -> bool:
        """Return whether something has changed on a trail since the look began."""
        return self.overflowed or any(
            place in self.missed or (place[0], b"") in self.missed for place in trail.places
        )


class Watcher:
    """Watches paths for all that follow one."""

    def __init__(self) -> None:
        """Watch nothing, and have nothing open."""
        self._queue: Inotify | None = None
        self._paused: asyncio.TimerHandle | None = None
        self._trails: dict[Watched, Trail] = {}
        self._watches: dict[int, dict[bytes, set[Watched]]] = {}
        """By the number of a watch and by name: the followers."""
        self._looks: set[Look] = set()

    @property
    def descriptors(self) -> set[int]:
        """The descriptor of the queue, while there is one."""
        return set() if self._queue is None else {self._queue.fileno()}

    def check(self) -> None:
        """Pass on what has changed by now; a system call, if anything is watched."""
        if self._queue is None or not self._queue.pending():
            return
        found = self._queue.read()
        while self._queue.pending() and len(found) < MAX_EVENTS:
            found += self._queue.read()
        if len(found) >= MAX_EVENTS:
            found.append(InotifyEvent(0, inotify.OVERFLOW, b""))
        self._pass_on(found)

    def begin(self) -> tuple[Look, Inotify | None]:
        """Begin a look; return it, and what follow() needs in its thread: None if there is no inotify.

        What has changed by now is passed on before: the look is not too early for that.
        """
        self.check()
        if self._queue is None:
            with contextlib.suppress(OSError):
                self._queue = Inotify()
                asyncio.get_running_loop().add_reader(self._queue.fileno(), self._wake)
        look = Look()
        self._looks.add(look)
        return look, self._queue

    def end(self, look: Look, watched: Watched, trail: Trail | None) -> bool:
        """End a check; its trail is watched from now on, or the previous one if it has none.

        Return whether something has changed on the trail since the look began.
        """
        self._looks.discard(look)
        if trail is None:
            trail = self._trails.get(watched, Trail())
        self._replace(watched, trail)
        return look.was_too_early(trail)

    def forget(self, watched: Watched) -> None:
        """Watch nothing for this one any more; with the last one, close what is open."""
        self._replace(watched, Trail())
        del self._trails[watched]
        if self._queue is None or self._trails or self._looks:
            return
        if self._paused is None:
            asyncio.get_running_loop().remove_reader(self._queue.fileno())
        else:
            self._paused.cancel()
            self._paused = None
        self._queue.close()
        self._queue = None

    def _replace(self, watched: Watched, trail: Trail) -> None:
        before = self._trails.get(watched, Trail()).places
        self._trails[watched] = trail
        for watch, name in trail.places - before:
            self._watches.setdefault(watch, {}).setdefault(name, set()).add(watched)
        for watch, name in before - trail.places:
            concerned = self._watches[watch][name]
            concerned.discard(watched)
            if not concerned:
                self._release(watch, name)

    def _release(self, watch: int, name: bytes) -> None:
        """Remove unused watches; a check that has just added one is notified (IGNORED)."""
        del self._watches[watch][name]
        if not self._watches[watch]:
            del self._watches[watch]
            assert self._queue is not None
            with contextlib.suppress(OSError):
                self._queue.remove(watch)

    def _wake(self) -> None:
        """Pass on what has changed, and then rest."""
        self.check()
        if self._queue is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._queue.fileno())
            self._paused = loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._paused = None
        if self._queue is not None:
            asyncio.get_running_loop().add_reader(self._queue.fileno(), self._wake)

    def _pass_on(self, events: Iterable[InotifyEvent]) -> None:
        """Notify each follower once that something has changed."""
        finished: dict[Watched, bool] = {}
        for event in events:
            for look in self._looks:
                look.note(event)
            is_finished = not event.mask & _WRITING or bool(event.mask & inotify.IS_DIRECTORY)
            for watched in self._concerned(event):
                finished[watched] = finished.get(watched, False) or is_finished
        for watched, is_finished in finished.items():
            watched.changed(finished=is_finished)

    def _concerned(self, event: InotifyEvent) -> Iterable[Watched]:
        if event.mask & inotify.OVERFLOW:
            return self._trails
        names = self._watches.get(event.watch, {})
        if event.mask & inotify.IGNORED:
            return {watched for concerned in names.values() for watched in concerned}
        return names.get(event.name, ())


def follow(queue: Inotify | None, path: str) -> Trail:
    """Watch what may change which file stands at an absolute path, as far as that can be. In a thread."""
    if queue is None:
        return Trail()
    places: set[WatchedName] = set()
    try:
        complete = _follow(queue, path, places)
    except OSError:
        complete = False
    return Trail(frozenset(places), complete)


def _follow(queue: Inotify, path: str, places: set[WatchedName]) -> bool:
    """Add the places of a path; return whether they are all. Raises OSError."""
    here = "/"
    ahead = _split(path)
    links = 0
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, name)
        target = _target(there)
        if not ahead or target != "":
            places.add((queue.add(here, _NAMES if ahead else _LAST_NAMES), os.fsencode(name)))
            target = _target(there)  # as it is now that it is watched
        if not inotify.is_local(here):
            return False
        if target is None or links == MAX_LINKS:
            return True
        if target:
            links += 1
            here = "/" if target.startswith("/") else here
            ahead += _split(target)
        else:
            here = there
            if ahead:
                places.add((queue.add(here, _MOVES | inotify.DO_NOT_FOLLOW), b""))
    places.add((queue.add(here, _FILE), b""))
    return inotify.is_local(here)


def _target(path: str) -> str | None:
    """Return where a symbolic link points; nothing for what is no link, None if nothing is there."""
    try:
        return os.readlink(path)
    except OSError as problem:
        if problem.errno == errno.EINVAL:
            return ""
        if problem.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def _split(path: str) -> list[str]:
    """Return the names on a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]
