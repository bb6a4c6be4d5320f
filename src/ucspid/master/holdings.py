"""What the master holds for the plan in force, and still keeps for earlier plans."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import ClassVar

from ucspid.errors import ConfigError, ResourceError
from ucspid.ipc import ban_memory, counters
from ucspid.ipc.channel import close_all
from ucspid.linux.memfd import sealed_memory
from ucspid.master.acquired import Acquired, StartProfile
from ucspid.master.control_sockets import ControlSockets
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.held_tls import TlsHoldings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.listener_table import ListenerTable
from ucspid.master.log_pipes import LogPipe, LogPipes, PipeKey
from ucspid.master.programs import HeldProgram, program
from ucspid.master.upgrade_state import HoldingsState, ProfileState
from ucspid.plan import Ending, LauncherKey, Plan, RulesFile, Service
from ucspid.policy.environ import too_long
from ucspid.records import dataclass, field, replace

LOG_KEY_SIZE = 4096
"""Bytes of the memory that observe/pseudonyms.py uses: one page."""

MAX_NAMES = 20
"""Names of services in a launcher's title and in messages about it."""


@dataclass(slots=True)
class Holdings:
    """Everything that the plan in force uses; it outlives every other process of the daemon."""

    plan: Plan | None = None
    control: ControlSockets = field(default_factory=ControlSockets)
    listeners: ListenerTable = field(default_factory=ListenerTable)
    pipes: LogPipes = field(default_factory=LogPipes)
    profiles: dict[LauncherKey, ProfileLaunchers] = field(default_factory=dict)
    draining: list[ProfileLaunchers] = field(default_factory=list)
    tls: TlsHoldings = field(default_factory=TlsHoldings)
    counters: int = field(default_factory=lambda: sealed_memory("ucspid-counters", counters.SIZE))
    """What became of connections, by the numbers of services: see counters.py."""
    bans: int = field(default_factory=lambda: sealed_memory("ucspid-bans", ban_memory.SIZE))
    """Whom operators have denied: see ban_memory.py."""
    log_key: int = field(default_factory=lambda: sealed_memory("ucspid-log-key", LOG_KEY_SIZE))
    """The key with which the loop hashes clients' addresses."""
    longest: float = 0.0
    """Seconds that any service so far, with sessions perhaps still, may take to stop."""
    gone: dict[str, Ending] = field(default_factory=dict)
    """Services that are in no plan any more: how their sessions end, for a loop that finds some."""
    _numbers: dict[str, int] = field(default_factory=dict)
    null: int = field(default_factory=lambda: os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    CARRIED: ClassVar = ("null", "counters", "bans", "log_key")
    """Fields that are plain descriptors, for the next image of the master."""

    def to_state(self) -> HoldingsState:
        """Return what from_state() takes: for the next image of the master."""
        assert self.plan is not None
        return HoldingsState(
            plan=self.plan,
            control=self.control.to_state(),
            listeners=self.listeners.to_state(),
            stderr=self.pipes.to_state(),
            numbers=self._numbers,
            longest=self.longest,
            gone=self.gone,
            others={name: getattr(self, name) for name in self.CARRIED},
            profiles=[profile.to_state() for profile in self.all_profiles()],
            tls=self.tls.to_state(),
        )

    @classmethod
    def from_state(
        cls, state: HoldingsState, launchers: Callable[[ProfileState], ProfileLaunchers]
    ) -> "Holdings":
        """Return what an earlier image of the master held; launchers() makes a profile's from its state."""
        held = cls(**state.others)  # type: ignore[arg-type]
        held.plan, held.longest, held.gone = state.plan, state.longest, state.gone
        held.control = ControlSockets.from_state(state.control)
        held.listeners = ListenerTable.from_state(state.listeners)
        held.pipes = LogPipes.from_state(state.stderr)
        held._numbers = state.numbers
        for state_of_profile in state.profiles:
            its_launchers = launchers(state_of_profile)
            if state_of_profile.draining:
                held.draining.append(its_launchers)
            else:
                held.profiles[its_launchers.key] = its_launchers
        return held

    def number(self, service: str) -> int:
        """Return a service's number in messages: the same for a name as long as the master lives."""
        return self._numbers.setdefault(service, len(self._numbers) + 1)

    def all_profiles(self) -> list[ProfileLaunchers]:
        """Return the profiles in force and those whose launchers are draining."""
        return [*self.profiles.values(), *self.draining]

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

    def acquire(
        self, plan: Plan, acquired: Acquired, start: StartProfile, renewed: Collection[int] | None = None
    ) -> None:
        """Open what the plan needs, and start launchers for new profiles. Raises ResourceError.

        All preloaded programs get new launchers, or only those of the profiles with these numbers.
        """
        _check_names(self._numbers.keys() | {service.name for service in plan.services})
        self.pipes.acquire(plan.services, acquired.stderr)
        acquired.completed = self.listeners.acquire(plan.services, acquired.listeners)
        acquired.control = self.control.acquire(plan.control, plan.control_group, plan.control_mode)
        acquired.control |= self.control.acquire_page(plan.web)
        for key, services in _by_key(plan).items():
            kind = plan.launcher if key.service is None else "python"
            there = self.profiles.get(key)
            if there is None or there.outdated or there.kind != kind or there.is_renewed(renewed):
                programs = self._programs(services, acquired.stderr)
                acquired.profiles[key] = start(key, programs, _names(services), kind)

    def _programs(self, services: Iterable[Service], new: Mapping[PipeKey, LogPipe]) -> list[HeldProgram]:
        """Return the programs of a profile's services; new are pipes that are not held yet."""
        return [
            program(self.number(service.name), service, self._stderr(service, new)) for service in services
        ]

    def _stderr(self, service: Service, new: Mapping[PipeKey, LogPipe]) -> int | None:
        """Return the descriptor that is a service's standard error, if it is one of ours."""
        if service.stderr == "log":
            return self.pipes.of(service, new).writing
        return self.null if service.stderr == "null" else None

    def go_over(self, plan: Plan, acquired: Acquired) -> list[str]:
        """Put a plan in force; what only the one before needs stays until release_old() and settle().

        Return the sockets that were passed and that no service has.
        """
        self.control.add(acquired.control)
        self.pipes.add(acquired.stderr)
        unwanted = self.listeners.add(acquired.listeners)
        for key in self.profiles.keys() & acquired.profiles.keys():
            self._drain(key)
        self.profiles.update(acquired.profiles)
        if self.plan is not None:
            self.gone.update((service.name, service.ending) for service in self.plan.services)
        self.plan = plan
        for service in plan.services:
            self.gone.pop(service.name, None)
            self.longest = max(self.longest, service.drain_timeout + service.kill_timeout)
        for key in self.profiles.keys() - {service.launcher_key for service in plan.services}:
            self._drain(key)
        self._set_programs()
        self.listeners.set_up(plan.services)
        return unwanted

    def _set_programs(self) -> None:
        assert self.plan is not None
        for key, services in _by_key(self.plan).items():
            self.profiles[key].set_programs(self._programs(services, {}), _names(services))

    def _drain(self, key: LauncherKey) -> None:
        draining = self.profiles.pop(key)
        draining.draining = True
        self.draining.append(draining)

    def forget_drained(self) -> None:
        """Forget profiles whose last launcher has exited."""
        self.draining = [profile for profile in self.draining if profile.launchers]

    def release_old(self) -> None:
        """Close what clients connect to and the plan in force does not have: the loop serves that plan."""
        plan = self.plan
        assert plan is not None
        self.control.keep(plan.control, plan.control_group, plan.control_mode, plan.web)
        self.listeners.keep(plan.services)

    def settle(self) -> list[LogPipe]:
        """Forget what only connections under an earlier plan could need: none is on its way any more.

        Return pipes that have to be closed as soon as nobody writes into them any more.
        """
        assert self.plan is not None
        for key, services in _by_key(self.plan).items():
            self.profiles[key].settle(self._programs(services, {}))
        for launchers in self.draining:
            launchers.settle([])
        return self.pipes.keep(self.plan.services)

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
        self._set_programs()
        return frozenset.intersection(*allowed) if allowed else frozenset()

    def close(self) -> None:
        """Close what clients connect to, remove what would stay in the file system, and end."""
        self.listeners.close()
        self.control.keep(None)
        close_all(getattr(self, name) for name in self.CARRIED)


def _check_names(names: Collection[str]) -> None:
    """Raise ResourceError if there are more names of services than numbers for them."""
    if len(names) >= counters.ROWS:
        raise ResourceError(
            f"more than {counters.ROWS - 1} names of services since the daemon started: restart it"
        )


def _by_key(plan: Plan) -> dict[LauncherKey, list[Service]]:
    """Return the services that share launchers."""
    found: dict[LauncherKey, list[Service]] = {}
    for service in plan.services:
        found.setdefault(service.launcher_key, []).append(service)
    return found


def _names(services: list[Service]) -> str:
    """Return the names of a profile's services, as many as people can take in."""
    names = [service.name for service in services]
    more = [f"and {len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return ",".join([*names[:MAX_NAMES], *more])
