"""What is to run: one configuration file, checked and resolved, as frozen values.

The configuration reader makes a Plan; the master carries it out; the event loop gets
its services. All three exchange it as JSON, so every field is a string, a number, a
boolean, None or a tuple of these. The default of a setting is what holds where it is not given,
in a file (a test compares it with config/schema.py) or in the plan of a version that did not know it.
"""

import io
from typing import Annotated, ClassVar, Literal

from ucspid import plain
from ucspid.net.endpoint import Endpoint
from ucspid.net.unix import SocketFile
from ucspid.profile import Profile
from ucspid.records import dataclass, replace

LauncherKind = Literal["native", "python"]


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
    """A tcprules file, as text or compiled, that is followed while the daemon runs; path is absolute.

    unusable says what holds while it cannot be read: the previous rules, or that all clients are refused.
    allow_missing refuses them if it is broken, and lets all in while there is no such file.
    """

    path: str
    kind: Literal["text", "cdb"]
    unusable: Literal["keep", "refuse", "allow_missing"] = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Which names are looked up for a connection, all together within timeout seconds.

    local_host is a name that is given as it is, local_ptr asks the DNS for one; paranoid
    drops a client's name whose addresses do not have the client's among them. ident_timeout is for the
    ident server alone, at most timeout; any_ident_reply takes a line that is no proper reply, too, as
    tcpserver does. before_rules has all looked up before any rule decides.
    """

    FORGIVING: ClassVar = True
    """See plain.read(): another version may have other settings."""

    remote_host: bool = False
    paranoid: bool = False
    local_host: str | None = None
    local_ptr: bool = False
    ident: bool = False
    any_ident_reply: bool = False
    ident_timeout: float | None = None
    timeout: float = 5.0
    before_rules: bool = False

    @property
    def wanted(self) -> bool:
        """Whether there is anything to look up, or a fixed name to pass on."""
        return (self.remote_host or self.local_ptr or self.ident) or self.local_host is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The PROXY protocol: of which networks headers of which versions are required, within timeout seconds.

    max_pending connections may wait at once for their header and for lookups. others are the peers that are
    in none of the networks.
    """

    from_: tuple[str, ...]
    versions: tuple[int, ...] = (1, 2)
    timeout: float = 3.0
    others: Literal["refuse", "direct"] = "refuse"
    max_pending: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Where certificates are: path is a PEM file with a chain and, if key is None, its key, or a pattern.

    Both are absolute. Where path names a directory, fullchain.pem and privkey.pem of it are meant, as certbot
    makes them. A pattern, as of glob(3), stands for all that it matches when they are read.
    """

    path: str
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsContext:
    """What handshakes are made with. Services with the same share it, and their clients' session tickets.

    client_ca is the path of a file with the certificates that clients' must be signed by. With
    sni strict a client that asks for a name of which there is no certificate is refused; with default it
    gets the first one.
    """

    FORGIVING: ClassVar = True

    certificates: tuple[CertificateFiles, ...]
    min_version: Literal["1.2", "1.3"] = "1.2"
    ciphers: str | None = None
    alpn: tuple[str, ...] = ()
    client_certificates: Literal["none", "request", "require"] = "none"
    client_ca: str | None = None
    sni: Literal["strict", "default"] = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS of a service: at once, or when its program asks for it, within handshake_timeout seconds.

    max_handshakes may be under way at a time. env: its program gets variables of s6, or ucspi-ssl's as well.
    """

    FORGIVING: ClassVar = True

    mode: Literal["implicit", "starttls"]
    context: Annotated[TlsContext, plain.SHARED]
    handshake_timeout: float = 10.0
    max_handshakes: int = 256
    env: Literal["s6", "ucspi-ssl"] = "s6"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsProcesses:
    """The processes that do TLS: how many, and as whom they run; None as in Plan."""

    count: int
    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttling:
    """When a service is slowed: after so many failed starts in a row, to one in each interval of seconds."""

    failures: int = 5
    interval: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preloaded:
    """A program in Python that its launcher imports once: script, a path, or module, PACKAGE.MODULE:FUNCTION.

    modules are imported before; watch has a changed file taken up. own is a module of ucspid's itself.
    """

    script: str | None = None
    module: str | None = None
    modules: tuple[str, ...] = ()
    watch: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PreloadedService:
    """What launchers of a preloaded program are made for: if any of it changes, new ones are."""

    name: str
    executable: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    stderr: str
    preloaded: Preloaded


@dataclass(frozen=True, slots=True)
class LauncherKey:
    """What services that share launchers have in common; one with a preloaded program shares none."""

    profile: Profile
    service: PreloadedService | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a service's sessions end, in seconds: all that stays of a service that the plan no longer has."""

    drain_timeout: float
    kill_timeout: float
    max_lifetime: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service: where it listens, what it runs, as whom, and within which limits.

    Times are seconds; None means no limit. env is the whole fixed environment, sorted.
    With preloaded, executable is the interpreter, and argv what the program has as sys.argv.
    exempt holds networks as text (10.0.0.0/8, ::1). rules is None where there are none;
    default_action is for clients that no rule matches. rule_env names all variables that rules set.
    socket_files has those of listen that have a path.
    """

    FORGIVING: ClassVar = True

    name: str
    listen: tuple[Endpoint, ...]
    executable: Annotated[str, plain.SHARED]
    argv: Annotated[tuple[str, ...], plain.SHARED]
    env: Annotated[tuple[tuple[str, str], ...], plain.SHARED]
    profile: Annotated[Profile, plain.SHARED]
    stderr: Literal["log", "inherit", "null", "client"] = "log"
    stderr_rate: Annotated[Rate, plain.SHARED] = STDERR_RATE
    max_connections: int = 40
    on_full: Literal["queue", "refuse"] = "queue"
    max_per_ip: int | None = None
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    rate_per_ip: Annotated[Rate | None, plain.SHARED] = None
    rate: Annotated[Rate | None, plain.SHARED] = None
    exempt: Annotated[tuple[str, ...], plain.SHARED] = ()
    refuse_message: str = ""
    banner: str = ""
    kill_ip_options: bool = False
    nodelay: bool = False
    keepalive: bool = False
    backlog: int = 128
    drain_timeout: float = 30.0
    kill_timeout: float = 5.0
    max_lifetime: float | None = None
    rules: tuple[RuleSpec, ...] | RulesFile | None = None
    default_action: Literal["allow", "deny"] = "allow"
    rule_env: Annotated[tuple[str, ...], plain.SHARED] = ()
    lookup: Annotated[Lookup, plain.SHARED] = Lookup()
    env_dialect: Literal["tcp", "tcp6", "systemd"] = "tcp"
    throttle: Annotated[Throttling | None, plain.SHARED] = Throttling()
    proxy: Annotated[Proxy | None, plain.SHARED] = None
    tls: Annotated[Tls | None, plain.SHARED] = None
    preloaded: Preloaded | None = None
    socket_files: tuple[SocketFile, ...] = ()

    @property
    def launcher_key(self) -> LauncherKey:
        """Which launchers start its program."""
        if self.preloaded is None:
            return LauncherKey(self.profile)
        preloaded = PreloadedService(
            name=self.name, executable=self.executable, argv=self.argv, env=self.env, stderr=self.stderr,
            preloaded=self.preloaded,
        )  # fmt: skip
        return LauncherKey(self.profile, preloaded)

    @property
    def ending(self) -> Ending:
        """How the service's sessions end."""
        drain, kill, lifetime = self.drain_timeout, self.kill_timeout, self.max_lifetime
        return Ending(drain_timeout=drain, kill_timeout=kill, max_lifetime=lifetime)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """How the log is written, and from which level; auto is by what standard error is.

    clients is what it shows of their addresses, connection_started the level of that event.
    """

    format: Literal["auto", "console", "json", "logfmt", "tcpserver"]
    level: Literal["debug", "info", "warning", "error", "none"]
    clients: Literal["full", "prefix", "hashed"] = "full"
    connection_started: Literal["debug", "info"] = "debug"


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """Where metrics and the status page are, as address:port or unix:path, and as whom; None leaves that."""

    listen: str
    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole configuration file.

    uid, gid and groups are the event loop's; None leaves them. nameservers are addresses with
    ports; empty means those of resolv.conf(5). launcher is what starts the programs. stop says whether
    the daemon, when it is to stop, waits for its sessions or exits while they go on. tls is None where no
    service has TLS. watchdog is the seconds in which the event loop has to turn once.
    """

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None
    control: str | None
    nameservers: tuple[str, ...]
    log: Log
    max_connections: int
    services: tuple[Service, ...]
    launcher: LauncherKind = "python"
    stop: Literal["wait", "exit"] = "wait"
    tls: TlsProcesses | None = None
    control_group: int | None = None
    control_mode: int = 0o600
    watchdog: float | None = None
    web: Web | None = None

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
            self.uid, self.gid, self.groups, self.control, self.log.format, self.log.clients,
            self.log.connection_started, self.nameservers,
            self.looks_up, self.asks_dns, self.asks_ident, self.stop, self.control_group, self.control_mode,
        )  # fmt: skip

    def to_json(self) -> str:
        """Return the plan as lines of JSON, one for each service after one for all else.

        A line at a time needs no memory for a thousand services in pieces.
        """
        return "\n".join(map(plain.to_json, (replace(self, services=()), *self.services)))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Plan":
        """Return the plan that to_json() wrote; of its lines, one at a time is in memory in pieces."""
        lines = io.BytesIO(text if isinstance(text, bytes) else text.encode())
        first = plain.read(cls, plain.from_json(lines.readline().decode()))
        return replace(
            first, services=tuple(plain.read(Service, plain.from_json(line.decode())) for line in lines)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFrame:
    """What the loop is sent of a plan besides those services that are new or changed.

    kept are the numbers of services that it has as they are, gone those that have sessions only.
    """

    max_connections: int
    kept: tuple[int, ...]
    gone: tuple[tuple[int, str, Ending], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedService:
    """A service, and by their numbers itself, its profile and its listeners."""

    number: int
    profile: int
    settings: Service
    listeners: tuple[int, ...]
