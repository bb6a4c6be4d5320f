"""Starting the other processes of the daemon: a fresh interpreter each, with nothing but what it needs."""

import fcntl
import os
import signal
import sys
from collections.abc import Mapping

from ucspid.launcher import paths
from ucspid.plan import LauncherKind, Plan, RulesFile, Web

PYTHON = [sys.executable, "-I", "-X", "utf8"]
"""Every process of the daemon: names of files, arguments and environments are UTF-8 in any locale."""

_LOOP = ["-m", "ucspid.loop"]
LAUNCHERS: dict[LauncherKind, list[str]] = {
    "native": [paths.NATIVE, " " * 100],
    "python": [*PYTHON, "-S", paths.PYTHON],
}
"""What is executed; a launcher shows its title where its arguments were, so there must be room."""

_TLS = ["-m", "ucspid.tls.main"]
_JOURNAL_RELAY = ["-m", "ucspid.journal_relay"]
_READER = ["-m", "ucspid.config"]
_RULES_READER = ["-m", "ucspid.config.rule_variables"]
_CERTIFICATE_READER = ["-m", "ucspid.config.certificates"]
_WEB = ["-m", "ucspid.web.main"]
_TRIAL = ["-m", "ucspid.master.trial"]
_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
_OUT_OF_THE_WAY = 10

HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that people send to all processes of a name, see pkill(1), and mean for the master."""


def start_loop(channel: int) -> int:
    """Start an event loop with its channel as descriptor 3; return its process."""
    with _Null() as null:
        return _start_python(_LOOP, {0: null, 1: null, 3: channel}, _ENVIRONMENT | _of_the_log())


def start_launcher(kind: LauncherKind, channel: int, loop: int, table: int) -> int:
    """Start a launcher with its channels as descriptors 3 and 4 and its table as 5; return its process."""
    with _Null() as null:
        descriptors = {0: null, 1: null, 3: channel, 4: loop, 5: table}
        return _start(LAUNCHERS[kind], descriptors, _ENVIRONMENT)


def start_tls(channel: int, loop: int) -> int:
    """Start a TLS process with its channels as descriptors 3 and 4; return its process."""
    with _Null() as null:
        return _start_python(_TLS, {0: null, 1: null, 3: channel, 4: loop}, _ENVIRONMENT)


def start_web(web: Web, listening: int, requests: int, events: int) -> int:
    """Start a web process with its listener as descriptor 3, and its connections to the loop as 4 and 5."""
    with _Null() as null:
        descriptors = {0: null, 1: null, 3: listening, 4: requests, 5: events}
        return _start_python([*_WEB, *_numbers(web)], descriptors, _ENVIRONMENT)


def start_reader(config: str, material: int, output: int, errors: int, progress: int) -> int:
    """Start a reader of the configuration file, at the head of a session; return its process.

    What it prints goes to output and errors, what it is looking at into the memory of progress, certificates
    with their keys into that of material.
    """
    descriptors = {1: output, 2: errors, 3: progress, 4: material}
    return _start_python([*_READER, config, "3", "4"], descriptors, os.environ, session=True)


def start_rules_reader(file: RulesFile, plan: Plan, output: int, errors: int, progress: int) -> int:
    """Start a reader of a rules file, as start_reader() does, which takes the rights of the event loop."""
    descriptors = {1: output, 2: errors, 3: progress}
    arguments = [*_RULES_READER, file.path, file.kind, *_numbers(plan), "3"]
    return _start_python(arguments, descriptors, _ENVIRONMENT, session=True)


def start_journal_relay(entries: int, plan: Plan) -> int:
    """Start a relay to the journal, with the loop's entries as descriptor 3; return its process."""
    with _Null() as null:
        descriptors = {0: null, 1: null, 2: null, 3: entries}
        return _start_python([*_JOURNAL_RELAY, *_numbers(plan)], descriptors, _ENVIRONMENT)


def start_certificate_reader(
    contexts: int,
    previous: int | None,
    material: int,
    queue: int | None,
    output: int,
    errors: int,
    progress: int,
) -> int:
    """Start a look at certificates, as start_reader() does: see ucspid.config.certificates."""
    given = {1: output, 2: errors, 3: contexts, 4: previous, 5: material, 6: queue, 7: progress}
    descriptors = {number: descriptor for number, descriptor in given.items() if descriptor is not None}
    arguments = [str(number) if number in descriptors else "-" for number in range(3, 8)]
    return _start_python([*_CERTIFICATE_READER, *arguments], descriptors, _ENVIRONMENT, session=True)


def start_trial(state: int, counts: int, config: str, output: int, errors: int, progress: int) -> int:
    """Start a trial of the code installed, as start_reader() does.

    It gets a copy of the master's state as its descriptor 3, and the counts as 4.
    """
    descriptors = {1: output, 2: errors, 3: state, 4: counts, 5: progress}
    return _start_python([*_TRIAL, "3", "4", config, "5"], descriptors, os.environ, session=True)


def _of_the_log() -> dict[str, str]:
    """Return the variables that forbid colours (no-color.org), and say which stream is the journal's."""
    return {name: os.environ[name] for name in ("NO_COLOR", "JOURNAL_STREAM") if os.environ.get(name)}


def _numbers(who: Plan | Web) -> list[str]:
    """Return user, group and groups as arguments; a - leaves what it stands for as it is."""
    groups = "-" if who.groups is None else ",".join(map(str, who.groups))
    return [*("-" if number is None else str(number) for number in (who.uid, who.gid)), groups]


class _Null:
    """The null device, for as long as it takes to start something."""

    def __enter__(self) -> int:
        self._descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _start_python(
    arguments: list[str],
    descriptors: dict[int, int],
    environment: Mapping[str, str],
    *,
    session: bool = False,
) -> int:
    """Start Python as _start() does."""
    command = [sys.executable, *PYTHON[1:], *arguments]
    return _start(command, descriptors, environment, session=session)


def _start(
    command: list[str],
    descriptors: dict[int, int],
    environment: Mapping[str, str],
    *,
    session: bool = False,
) -> int:
    """Start a program with these descriptors at these numbers, and with the HARMLESS signals blocked.

    With session it leads a session and a process group of its own from the start. The descriptors
    are copied first, since the numbers may be in use.
    """
    copies: dict[int, int] = {}
    try:
        for wanted, descriptor in descriptors.items():
            copies[wanted] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        return os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, copy, wanted) for wanted, copy in copies.items()],
            setsigmask=HARMLESS,
            setsid=session,
        )
    finally:
        for copy in copies.values():
            os.close(copy)
