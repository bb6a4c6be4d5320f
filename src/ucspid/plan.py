"""What is to run: one configuration file, checked and resolved, as frozen values.

The configuration reader makes a Plan; the master carries it out; the event loop gets
its services. All three exchange it as JSON, so every field is a string, a number, a
boolean, None or a tuple of these. The default of a setting is what holds where it is not given,
in a file (a test compares it with config/schema.py) or in the plan of a version that did not know it.
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from ucspid.net.endpoint import Endpoint
from ucspid.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A token bucket: count tokens in each period of seconds, at most burst at once."""

    count: int
    seconds: float
    burst: int


STDERR_RATE = Rate(count=200, seconds=1.0, burst=200)
"""Lines of programs' standard error that are logged where the file does not say how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSpec:
    """An access rule as it stands in the file: patterns as in ucspid.rules.patterns, where as FILE:LINE.

    None means that the rule says nothing of it.
    """

    from_: tuple[str, ...]
    verdict: Literal["allow", "deny"]
    env: tuple[tuple[str, str], ...]
    max_per_ip: int | None
    rate_per_ip: Rate | None
    message: str | None
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesFile:
    """A tcprules file, as text or compiled, that is followed while the daemon runs; path is absolute."""

    path: str
    kind: Literal["text", "cdb"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Which names are looked up for a connection, all together within timeout seconds.

    local_host is a name that is told as it is, local_ptr asks the DNS for one; paranoid
    drops a client's name whose addresses do not have the client's among them.
    """

    remote_host: bool = False
    paranoid: bool = False
    local_host: str | None = None
    local_ptr: bool = False
    ident: bool = False
    timeout: float = 5.0

    @property
    def wanted(self) -> bool:
        """Whether there is anything to look up, or a fixed name to pass on."""
        return bool(self.remote_host or self.local_ptr or self.ident or self.local_host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttling:
    """When a service is slowed: after so many failed starts in a row, to one in each interval of seconds."""

    failures: int = 5
    interval: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a service's sessions end, in seconds: what is left of a service that the plan has no more."""

    drain_timeout: float
    kill_timeout: float
    max_lifetime: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service: where it listens, what it runs, as whom, and within which limits.

    Times are seconds; None means no limit. env is the whole fixed environment, sorted.
    exempt holds networks as text (10.0.0.0/8, ::1). rules is None where there are none;
    default_action is for clients that no rule matches. rule_env names all variables that rules set.
    """

    name: str
    listen: tuple[Endpoint, ...]
    executable: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    profile: Profile
    stderr: Literal["log", "inherit", "null", "client"] = "log"
    stderr_rate: Rate = STDERR_RATE
    max_connections: int = 40
    on_full: Literal["queue", "refuse"] = "queue"
    max_per_ip: int | None = None
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    rate_per_ip: Rate | None = None
    rate: Rate | None = None
    exempt: tuple[str, ...] = ()
    refuse_message: str = ""
    nodelay: bool = False
    keepalive: bool = False
    backlog: int = 128
    drain_timeout: float = 30.0
    kill_timeout: float = 5.0
    max_lifetime: float | None = None
    rules: tuple[RuleSpec, ...] | RulesFile | None = None
    default_action: Literal["allow", "deny"] = "allow"
    rule_env: tuple[str, ...] = ()
    lookup: Lookup = Lookup()
    env_dialect: Literal["tcp", "tcp6", "systemd"] = "tcp"
    throttle: Throttling | None = Throttling()

    @property
    def ending(self) -> Ending:
        """How the service's sessions end."""
        return Ending(
            drain_timeout=self.drain_timeout,
            kill_timeout=self.kill_timeout,
            max_lifetime=self.max_lifetime,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """How the log is written: console or JSON lines (auto: by what stderr is), from which level."""

    format: Literal["auto", "console", "json"]
    level: Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole configuration file.

    uid, gid and groups are the event loop's; None leaves them. nameservers are addresses with
    ports; empty means those of resolv.conf(5).
    """

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None
    control: str | None
    nameservers: tuple[str, ...]
    log: Log
    max_connections: int
    services: tuple[Service, ...]

    @property
    def looks_up(self) -> bool:
        """Whether any service looks names up."""
        return any(service.lookup.wanted for service in self.services)

    @property
    def asks_dns(self) -> bool:
        """Whether any service has name servers asked."""
        return any(service.lookup.remote_host or service.lookup.local_ptr for service in self.services)

    @property
    def asks_ident(self) -> bool:
        """Whether any service has its clients' ident servers asked."""
        return any(service.lookup.ident for service in self.services)

    @property
    def loop_settings(self) -> tuple[object, ...]:
        """What a process of the event loop takes at its start and cannot change."""
        return (
            self.uid, self.gid, self.groups, self.control, self.log.format, self.nameservers,
            self.looks_up, self.asks_dns, self.asks_ident,
        )  # fmt: skip

    def to_json(self) -> str:
        """Return the plan as lines of JSON, one for each service after one for all else.

        A line at a time needs no memory for a thousand services in pieces.
        """
        return "\n".join(map(to_json, (replace(self, services=()), *self.services)))

    def plain(self) -> dict[str, Any]:
        """Return the plan as values of JSON."""
        data: dict[str, Any] = json.loads(to_json(self))
        return data

    @classmethod
    def from_json(cls, text: str | bytes) -> "Plan":
        """Return the plan that to_json() wrote."""
        first, *services = text.splitlines()
        data = json.loads(first)
        data["groups"] = _tuple(data["groups"])
        data["nameservers"] = tuple(data["nameservers"])
        data["log"] = Log(**data["log"])
        data["services"] = tuple(service_from(json.loads(line)) for line in services)
        return cls(**data)


def to_json(value: object) -> str:
    """Return a value with dataclasses of this module in it as one line of JSON."""
    return json.dumps(value, default=_members, separators=(",", ":"))


def _members(value: Any) -> dict[str, Any]:
    """Return a dataclass or a Profile as json wants it; asdict() would copy all that is in it."""
    if isinstance(value, Profile):
        return vars(value)
    return {name: getattr(value, name) for name in value.__slots__}


def service_from(data: dict[str, Any]) -> Service:
    """Return the Service that to_json() wrote."""
    data["profile"] = _shared(Profile.from_plain(data["profile"]))
    data["listen"] = tuple(Endpoint(**item) for item in data["listen"])
    data["argv"] = tuple(data["argv"])
    data["env"] = _shared(tuple((name, value) for name, value in data["env"]))
    data["exempt"] = tuple(data["exempt"])
    data["rule_env"] = tuple(data["rule_env"])
    data["lookup"] = Lookup(**data["lookup"])
    data["rules"] = _rules_from(data["rules"])
    if data.get("throttle") is not None:
        data["throttle"] = Throttling(**data["throttle"])
    for key in data.keys() & {"rate", "rate_per_ip", "stderr_rate"}:
        data[key] = _rate_from(data[key])
    return Service(**data)


@lru_cache(maxsize=256)
def _shared(value: Any) -> Any:
    """Return the first of equal values: what a thousand services have in common is there once."""
    return value


def _rules_from(data: Any) -> tuple[RuleSpec, ...] | RulesFile | None:
    if isinstance(data, dict):
        return RulesFile(**data)
    return None if data is None else tuple(_rule_from(item) for item in data)


def _rule_from(data: dict[str, Any]) -> RuleSpec:
    data["from_"] = tuple(data["from_"])
    data["env"] = tuple((name, value) for name, value in data["env"])
    data["rate_per_ip"] = _rate_from(data["rate_per_ip"])
    return RuleSpec(**data)


def _rate_from(data: dict[str, Any] | None) -> Rate | None:
    return None if data is None else Rate(**data)


def _tuple(items: list[int] | None) -> tuple[int, ...] | None:
    return None if items is None else tuple(items)
