"""What the master holds for the plan in force, and what a new plan needs beyond it."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import ClassVar

from ucspid.errors import ConfigError, ResourceError
from ucspid.ipc import counters
from ucspid.linux.fd_limit import why
from ucspid.linux.memfd import sealed_memory
from ucspid.master import log_pipes
from ucspid.master.fdstore import Passed, name, remove, store
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.listeners import Key, Listening, keys, open_control, open_listener, skip_numbers
from ucspid.master.log_pipes import LogPipe, PipeKey, pipe_key
from ucspid.master.programs import Program, program
from ucspid.master.upgrade_state import HoldingsState, ProfileState, plan_of_other_code
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Ending, Plan, RulesFile, Service
from ucspid.policy.environ import too_long
from ucspid.profile import Profile

StartProfile = Callable[[Profile, list[Program], str], ProfileLaunchers]
"""Starts a profile's first launcher, given the programs and the names of its services for ps(1)."""


MAX_NAMES = 20
"""Of services, in a launcher's title and in messages about it."""


@dataclass(slots=True)
class Acquired:
    """What a new plan needs that is not held yet: released again if the plan cannot be."""

    listeners: dict[Key, Listening] = field(default_factory=dict)
    control: socket.socket | None = None
    profiles: dict[Profile, ProfileLaunchers] = field(default_factory=dict)
    stderr: dict[PipeKey, LogPipe] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether every new profile has a launcher at work."""
        return all(profile.ready for profile in self.profiles.values())

    def release(self, plan: Plan) -> None:
        """Give everything back."""
        for listening in self.listeners.values():
            listening.sock.close()
        if self.control is not None and plan.control is not None:
            self.control.close()
            _unlink(plan.control)
        for profile in self.profiles.values():
            profile.dismiss()
        for pipe in self.stderr.values():
            pipe.close()


@dataclass(slots=True)
class Holdings:
    """Everything that the plan in force uses; it outlives every other process of the daemon."""

    plan: Plan | None = None
    control: socket.socket | None = None
    listeners: dict[Key, Listening] = field(default_factory=dict)
    profiles: dict[Profile, ProfileLaunchers] = field(default_factory=dict)
    leaving: list[ProfileLaunchers] = field(default_factory=list)
    stderr: dict[PipeKey, LogPipe] = field(default_factory=dict)
    ended: list[LogPipe] = field(default_factory=list)
    """Pipes into which only programs write that run already."""
    counters: int = field(default_factory=lambda: sealed_memory("ucspid-counters", counters.SIZE))
    """What became of connections, by the numbers of services: the loop counts, see counters.py."""
    passed: Passed = field(default_factory=Passed)
    longest: float = 0.0
    """Seconds that any service so far, with sessions perhaps still, may take to stop."""
    gone: dict[str, Ending] = field(default_factory=dict)
    """Services that are in no plan any more: how their sessions end, for a loop that finds some."""
    _numbers: dict[str, int] = field(default_factory=dict)
    _null: int = field(default_factory=lambda: os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    CARRIED: ClassVar = ("_null", "counters")
    """Fields that are descriptors, always, without more to them: for the next image of the master."""

    def to_state(self) -> HoldingsState:
        """Return what from_state() takes: for the next image of the master."""
        assert self.plan is not None
        return HoldingsState(
            plan=self.plan.plain(),
            control=None if self.control is None else self.control.fileno(),
            listeners=[
                (asdict(address), service, place, listening.number, listening.sock.fileno())
                for (address, service, place), listening in self.listeners.items()
            ],
            stderr=[astuple(pipe) for pipe in self.log_pipes()],
            numbers=self._numbers,
            longest=self.longest,
            gone={name: asdict(ending) for name, ending in self.gone.items()},
            others={name: getattr(self, name) for name in self.CARRIED},
            profiles=[profile.to_state() for profile in self.all_profiles()],
        )

    @classmethod
    def from_state(
        cls, state: HoldingsState, launchers: Callable[[ProfileState], tuple[Profile, ProfileLaunchers]]
    ) -> "Holdings":
        """Return what an earlier image of the master held; launchers() makes a profile's from its state."""
        held = cls(**state.others)  # type: ignore[arg-type]
        held.plan = plan_of_other_code(state.plan)
        held.control = None if state.control is None else socket.socket(fileno=state.control)
        for address, service, place, number, descriptor in state.listeners:
            held.listeners[Endpoint(**address), service, place] = Listening(
                number, socket.socket(fileno=descriptor)
            )
            skip_numbers(number)
        for item in state.stderr:
            pipe = LogPipe(*item)
            log_pipes.skip_numbers(pipe.number)
            if pipe.writing is None:
                held.ended.append(pipe)
            else:
                held.stderr[pipe.service, pipe.user] = pipe
        held._numbers = state.numbers
        held.longest = state.longest
        held.gone = {name: Ending(**ending) for name, ending in state.gone.items()}
        for state_of_profile in state.profiles:
            profile, its_launchers = launchers(state_of_profile)
            if state_of_profile.leaving:
                held.leaving.append(its_launchers)
            else:
                held.profiles[profile] = its_launchers
        return held

    def number(self, service: str) -> int:
        """Return a service's number in messages: the same for a name as long as the master lives."""
        return self._numbers.setdefault(service, len(self._numbers) + 1)

    def listeners_of(self, service: Service) -> list[Listening]:
        """Return a service's listeners; none when the daemon stops."""
        return [self.listeners[key] for key in keys(service) if key in self.listeners]

    def all_profiles(self) -> list[ProfileLaunchers]:
        """Return the profiles in force and those whose launchers are leaving."""
        return [*self.profiles.values(), *self.leaving]

    def all_launchers(self) -> Iterator[tuple[ProfileLaunchers, HeldLauncher]]:
        """Yield every launcher with its profile."""
        for profile in self.all_profiles():
            for launcher in list(profile.launchers.values()):
                yield profile, launcher

    def kill_launcher(self, number: int) -> None:
        """Kill the process of a launcher, if there is one of this number; another is started."""
        for _profile, launcher in self.all_launchers():
            if launcher.number == number:
                launcher.kill()

    def acquire(self, plan: Plan, acquired: Acquired, start: StartProfile) -> None:
        """Bind what the plan listens on, and start launchers for new profiles. Raises ResourceError."""
        if len(self._numbers.keys() | {service.name for service in plan.services}) >= counters.ROWS:
            raise ResourceError(
                f"more than {counters.ROWS - 1} names of services since the daemon started: restart it"
            )
        self._open_pipes(plan, acquired)
        for service in plan.services:
            for key in keys(service):
                if key not in self.listeners:
                    acquired.listeners[key] = open_listener(service, key[0], self.passed.take(key))
        if plan.control is not None and (self.plan is None or self.plan.control != plan.control):
            acquired.control = open_control(plan.control)
        for service in plan.services:
            profile = service.profile
            there = self.profiles.get(profile)
            if (there is None or there.outdated) and profile not in acquired.profiles:
                programs = self._programs(plan, profile, self.stderr | acquired.stderr)
                acquired.profiles[profile] = start(profile, programs, _names(plan, profile))

    def _open_pipes(self, plan: Plan, acquired: Acquired) -> None:
        try:
            for service in plan.services:
                if service.stderr == "log" and pipe_key(service) not in self.stderr:
                    acquired.stderr[pipe_key(service)] = LogPipe.open(service)
        except OSError as problem:
            raise ResourceError(f"{service.name}: no pipe for its log: {why(problem)}") from None

    def _programs(self, plan: Plan, profile: Profile, pipes: Mapping[PipeKey, LogPipe]) -> list[Program]:
        """Return the programs of a profile's services."""
        return [
            program(self.number(service.name), service, self._stderr(service, pipes))
            for service in plan.services
            if service.profile == profile
        ]

    def go_over(self, plan: Plan, acquired: Acquired) -> None:
        """Put a plan in force; old listeners stay open until release_old()."""
        if self.plan is not None and self.plan.control != plan.control:
            self._close_control()
        self.control = acquired.control or self.control
        self.listeners.update(acquired.listeners)
        self.stderr.update(acquired.stderr)
        store(acquired.listeners.items())
        self.passed.close()
        for profile in self.profiles.keys() & acquired.profiles.keys():
            self._let_leave(profile)
        self.profiles.update(acquired.profiles)
        if self.plan is not None:
            self.gone.update((service.name, service.ending) for service in self.plan.services)
        self.plan = plan
        for service in plan.services:
            self.gone.pop(service.name, None)
            self.longest = max(self.longest, service.drain_timeout + service.kill_timeout)
        wanted = {service.profile for service in plan.services}
        for profile in self.profiles.keys() - wanted:
            self._let_leave(profile)
        for profile, launchers in self.profiles.items():
            launchers.set_programs(self._programs(plan, profile, self.stderr), _names(plan, profile))
        for service in plan.services:
            for key in keys(service):
                self.listeners[key].set_up(service)

    def _let_leave(self, profile: Profile) -> None:
        leaving = self.profiles.pop(profile)
        leaving.leaving = True
        self.leaving.append(leaving)

    def forget_left(self) -> None:
        """Let go of profiles whose last launcher has left."""
        self.leaving = [profile for profile in self.leaving if profile.launchers]

    def log_pipes(self) -> list[LogPipe]:
        """Return the pipes of the plan in force and those that end with the programs that run."""
        return [*self.stderr.values(), *self.ended]

    def settle(self) -> list[LogPipe]:
        """Forget what only connections under an earlier plan could need: none is on its way any more.

        Return pipes that have to be closed as soon as nobody writes into them any more: see close_pipe().
        """
        assert self.plan is not None
        for profile, launchers in self.profiles.items():
            launchers.settle(self._programs(self.plan, profile, self.stderr))
        for launchers in self.leaving:
            launchers.settle([])
        wanted = {pipe_key(service) for service in self.plan.services if service.stderr == "log"}
        ended = [self.stderr.pop(old) for old in self.stderr.keys() - wanted]
        for pipe in ended:
            pipe.end()
        self.ended += ended
        return ended

    def close_pipe(self, pipe: LogPipe) -> None:
        """Close a pipe into which nobody writes any more."""
        self.ended.remove(pipe)
        pipe.close()

    def rules_file(self, service: int) -> RulesFile | None:
        """Return the rules file of a service in the plan, by the service's number; None if it has none."""
        for item in () if self.plan is None else self.plan.services:
            if isinstance(item.rules, RulesFile) and self._numbers.get(item.name) == service:
                return item.rules
        return None

    def allow_variables(self, file: RulesFile, names: Iterable[str]) -> frozenset[str]:
        """Let all services whose rules are in a file have these variables set by rules, too.

        Return all those that each of them allows then. Raises ConfigError if they are too many.
        """
        assert self.plan is not None
        services = []
        allowed: list[frozenset[str]] = []
        for service in self.plan.services:
            if service.rules == file:
                rule_env = {*service.rule_env, *names}
                if why := too_long(service.argv, service.env, rule_env):
                    raise ConfigError([f"{service.name}: {why}"])
                service = replace(service, rule_env=tuple(sorted(rule_env)))  # noqa: PLW2901
                allowed.append(frozenset(rule_env))
            services.append(service)
        self.plan = replace(self.plan, services=tuple(services))
        for profile, launchers in self.profiles.items():
            launchers.set_programs(
                self._programs(self.plan, profile, self.stderr), _names(self.plan, profile)
            )
        return frozenset.intersection(*allowed) if allowed else frozenset()

    def release_old(self) -> None:
        """Close the listeners that the plan in force does not have."""
        assert self.plan is not None
        wanted = {key for service in self.plan.services for key in keys(service)}
        old = self.listeners.keys() - wanted
        for key in old:
            self.listeners.pop(key).sock.close()
        remove(map(name, old))

    def close_listeners(self) -> None:
        """Close everything that clients connect to: the daemon stops."""
        for listening in self.listeners.values():
            listening.sock.close()
        remove(map(name, self.listeners))
        self.listeners.clear()

    def _close_control(self) -> None:
        if self.control is not None and self.plan is not None and self.plan.control is not None:
            self.control.close()
            self.control = None
            _unlink(self.plan.control)

    def close(self) -> None:
        """Remove what would be left behind in the file system."""
        self._close_control()

    def _stderr(self, service: Service, pipes: Mapping[PipeKey, LogPipe]) -> int | None:
        """Return the descriptor that is a service's standard error, if it is one of ours."""
        if service.stderr == "log":
            return pipes[pipe_key(service)].writing
        return self._null if service.stderr == "null" else None


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _names(plan: Plan, profile: Profile) -> str:
    """Return the names of a profile's services, as many as people can take in."""
    names = [service.name for service in plan.services if service.profile == profile]
    more = [f"and {len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return ",".join([*names[:MAX_NAMES], *more])
