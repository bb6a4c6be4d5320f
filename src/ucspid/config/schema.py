"""The configuration file's keys: their types, bounds, defaults and descriptions.

From these definitions come the checks, the JSON Schema that editors use and the reference
in docs/configuration.md. A new setting of services is a field here, one of the same name
with the same default in plan.Service, and its use.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, TypeVar

from msgspec import Meta, Struct
from msgspec import field as key

from ucspid.config.accounts import MAX_GROUPS
from ucspid.config.controls import ControlSection
from ucspid.config.endpoints import MAX_NAMESERVERS, ClientNetwork, Listen, ListenSection, Nameserver
from ucspid.config.forms import (
    MAX_RATE,
    Account,
    Duration,
    EnvName,
    Frequency,
    Lifetime,
    Message,
    Path,
    ProgramText,
    ServiceName,
    ThrottleForm,
    Umask,
)
from ucspid.config.forwards import ForwardSection, ForwardTarget
from ucspid.config.logs import LogSection
from ucspid.config.lookups import LookupSection
from ucspid.config.proxies import ProxySection
from ucspid.config.pythonforms import ModuleFunction, ModuleName
from ucspid.config.rlimits import Rlimits
from ucspid.config.ruleforms import MAX_CONNECTIONS, ClientPattern, Count, RulesPath, Said
from ucspid.config.tls_keys import TlsDefaults, TlsMode, TlsSection
from ucspid.config.webs import WebSection
from ucspid.plan import Throttling

T = TypeVar("T")


def _made(value: T) -> Callable[[], T]:
    """Return a factory of an immutable default that JSON has no form for."""
    return lambda: value


class LimitsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of the whole daemon."""

    max_connections: Annotated[
        Count,
        Meta(
            description="Connections of all services together; over it clients wait in the kernel's backlog."
        ),
    ] = 1000


class RuleSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One access rule: its clients, allow or deny, and what else applies to these clients.

    The first rule that matches a client decides. Examples are in docs/rules.md.
    """

    either: ClassVar[tuple[str, ...]] = ("allow", "deny")

    from_: Annotated[
        list[ClientPattern],
        Meta(
            min_length=1,
            extra={"single": True},
            description="The clients of the rule: any of these. Without it all clients.",
        ),
    ] = key(default_factory=lambda: [ClientPattern.parse("*")], name="from")
    allow: Annotated[Said, Meta(description="Accept these clients.")] = key(
        default_factory=_made(Said(said=False))
    )
    deny: Annotated[Said, Meta(description="Refuse these clients.")] = key(
        default_factory=_made(Said(said=False))
    )
    env: Annotated[
        dict[EnvName, ProgramText], Meta(description="Variables for the program; they override all others.")
    ] = key(default_factory=dict)
    max_per_ip: Annotated[
        Count | None, Meta(description="Connections at once of one client, instead of the service's.")
    ] = None
    rate_per_ip: Annotated[
        Frequency | None, Meta(description="New connections of one client, instead of the service's.")
    ] = None
    burst: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_RATE)] | None,
        Meta(description="How many of this rate_per_ip may come at once. Without it the count of the rate."),
    ] = None
    message: Annotated[
        Message | None,
        Meta(
            description="What is sent to clients that the rule denies; or that are over a limit, in place of "
            "refuse_message."
        ),
    ] = None


class SettingsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Used by every service that does not set the key itself.

    A service's key replaces the one here as a whole: env and rlimits are not merged. Where null
    is allowed, it removes the default for a service.
    """

    user: Annotated[
        Account | None,
        Meta(
            description="The user that the program runs as. Without it the file's user; root only if named."
        ),
    ] = None
    group: Annotated[Account | None, Meta(description="The group. Without it the user's own.")] = None
    groups: Annotated[
        Annotated[list[Account], Meta(max_length=MAX_GROUPS)] | None,
        Meta(description="The supplementary groups; [] is none. Without it the user's, as at a login."),
    ] = None
    chdir: Annotated[
        Path,
        Meta(description="The working directory; under chroot inside it. Relative to the file's directory."),
    ] = key(default_factory=_made(Path("/")))
    chroot: Annotated[
        Path | None, Meta(description="The root directory. Relative to the file's directory. Needs root.")
    ] = None
    umask: Annotated[Umask, Meta(description="The file mode creation mask, in octal.")] = key(
        default_factory=_made(Umask(0o022))
    )
    nice: Annotated[
        Annotated[int, Meta(ge=-20, le=19)] | None,
        Meta(description="The priority, nice(1): 19 is the lowest."),
    ] = None
    rlimits: Annotated[Rlimits, Meta(description="Resource limits.")] = key(default_factory=Rlimits)
    no_new_privs: Annotated[
        bool,
        Meta(
            description="Setuid programs give no rights (qmail-queue is one), prctl(2) PR_SET_NO_NEW_PRIVS."
        ),
    ] = False
    env: Annotated[
        dict[EnvName, ProgramText], Meta(description="Environment of the program; overrides inherit_env.")
    ] = key(default_factory=dict)
    inherit_env: Annotated[
        list[EnvName],
        Meta(
            description='Names taken from the daemon\'s own environment, where it has them; "*" is all but '
            "those that describe a connection. Those that systemd sets for the daemon itself (NOTIFY_SOCKET, "
            "WATCHDOG_*, LISTEN_*, SYSTEMD_EXEC_PID) are never taken."
        ),
    ] = key(default_factory=list)
    user_env: Annotated[
        bool, Meta(description="HOME, USER, LOGNAME and SHELL are those of the user, from passwd(5).")
    ] = False
    stderr: Annotated[
        Literal["log", "inherit", "null", "client"] | None,
        Meta(
            description="Standard error: lines become events of the log, the daemon's own, /dev/null, or the "
            "client's socket as under inetd."
        ),
    ] = "log"
    stderr_rate: Annotated[
        Frequency,
        Meta(
            description="Lines of the service that are logged with stderr: log; more are counted. "
            "recordio needs thousands."
        ),
    ] = key(default_factory=_made(Frequency(200, 1)))
    max_connections: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_CONNECTIONS)],
        Meta(description="Connections at once; over it, on_full. With 0 nobody is accepted."),
    ] = 40
    on_full: Annotated[
        Literal["queue", "refuse"],
        Meta(
            description="Over max_connections or rate: clients wait in the kernel's backlog, or are refused."
        ),
    ] = "queue"
    max_per_ip: Annotated[
        Count | None, Meta(description="Connections at once of one client; null is no limit.")
    ] = None
    ipv4_prefix: Annotated[
        Annotated[int, Meta(ge=8, le=32)], Meta(description="Bits of an IPv4 address that make one client.")
    ] = 32
    ipv6_prefix: Annotated[
        Annotated[int, Meta(ge=16, le=128)], Meta(description="Bits of an IPv6 address that make one client.")
    ] = 64
    rate_per_ip: Annotated[
        Frequency | None, Meta(description="New connections of one client; over it they are refused.")
    ] = None
    burst: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_RATE)] | None,
        Meta(description="How many of rate_per_ip may come at once. Without it the count of the rate."),
    ] = None
    rate: Annotated[
        Frequency | None, Meta(description="New connections of the whole service; over it, on_full.")
    ] = None
    exempt: Annotated[
        list[ClientNetwork], Meta(description="Clients to which max_per_ip and rate_per_ip do not apply.")
    ] = key(default_factory=list)
    refuse_message: Annotated[
        Message, Meta(description="What a refused client is sent; in double quotes \\r\\n ends a line.")
    ] = key(default_factory=_made(Message("")))
    banner: Annotated[
        Message,
        Meta(description="What every client is sent at once, before names and rules; refused ones, too."),
    ] = key(default_factory=_made(Message("")))
    kill_ip_options: Annotated[
        bool, Meta(description="Send no packets back along the source route of a client, ip(7) IP_OPTIONS.")
    ] = False
    rules: Annotated[
        list[RuleSection] | RulesPath | None,
        Meta(
            description="Access rules: here, or in a tcprules file, compiled if its name ends in .cdb. "
            "Its path is relative to the file's directory."
        ),
    ] = None
    unusable_rules: Annotated[
        Literal["keep", "refuse", "allow_missing"],
        Meta(
            description="While the rules file cannot be read, the previous rules hold, or all clients are "
            "refused; allow_missing lets all in while there is no such file."
        ),
    ] = "keep"
    default_action: Annotated[
        Literal["allow", "deny"], Meta(description="The verdict for clients that no rule matches.")
    ] = "allow"
    lookup: Annotated[LookupSection, Meta(description="Names to look up.")] = key(
        default_factory=LookupSection
    )
    env_dialect: Annotated[
        Literal["tcp", "tcp6", "systemd"],
        Meta(description="The dialect of the variables that describe the connection."),
    ] = "tcp"
    proxy: Annotated[
        ProxySection | None,
        Meta(description="The balancers whose word is taken for who the client is."),
    ] = None
    throttle: Annotated[
        ThrottleForm,
        Meta(description="After so many failed starts in a row, one start in each interval; or off."),
    ] = key(default_factory=_made(ThrottleForm(Throttling())))
    nodelay: Annotated[bool, Meta(description="Send small writes at once, tcp(7) TCP_NODELAY.")] = False
    keepalive: Annotated[bool, Meta(description="Probe silent clients, socket(7) SO_KEEPALIVE.")] = False
    backlog: Annotated[
        Annotated[int, Meta(ge=0, le=65535)],
        Meta(description="Connections that wait in the kernel, listen(2); net.core.somaxconn bounds it."),
    ] = 128
    drain_timeout: Annotated[
        Duration, Meta(description="How long sessions may go on when the daemon stops, before SIGTERM.")
    ] = key(default_factory=_made(Duration(30)))
    kill_timeout: Annotated[Duration, Meta(description="Time from SIGTERM to SIGKILL.")] = key(
        default_factory=_made(Duration(5))
    )
    max_lifetime: Annotated[
        Lifetime | None, Meta(description="How long one session may last; then SIGTERM. null is no limit.")
    ] = None


class ServiceSection(SettingsSection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One service. It has the keys of defaults too.

    Exactly one of program, python, module and forward says what it runs: see docs/python.md about python and
    module, docs/forward.md about forward.
    """

    either: ClassVar[tuple[str, ...]] = ("program", "python", "module", "forward")

    listen: Annotated[
        list[Listen | ListenSection],
        Meta(
            min_length=1,
            extra={"single": True},
            description="Where to listen. A bare port is IPv4 and IPv6; port 0 lets the kernel choose. Of a "
            "Unix socket a mapping may also say who may connect: services.NAME.listen, below.",
        ),
    ]
    program: Annotated[
        list[ProgramText],
        Meta(
            min_length=1,
            description="The program and its arguments; no shell. Without a slash it is searched in PATH.",
        ),
    ] = key(default_factory=list)
    python: Annotated[
        Path | None,
        Meta(
            description="A script in Python, which runs in a fork for each connection; what it begins with "
            "importing is imported once. Relative to chdir."
        ),
    ] = None
    module: Annotated[
        ModuleFunction | None,
        Meta(description="A function of a module, which is imported once. Forks call it, without arguments."),
    ] = None
    forward: Annotated[
        ForwardSection | ForwardTarget | None,
        Meta(description="In place of a program: the server that clients are passed on to, or a mapping."),
    ] = None
    args: Annotated[list[ProgramText], Meta(description="Arguments for python or module.")] = key(
        default_factory=list
    )
    preload: Annotated[
        list[ModuleName],
        Meta(description="Modules to import once, besides those that the script begins with."),
    ] = key(default_factory=list)
    interpreter: Annotated[
        Path | None,
        Meta(
            description="Python 3.9 or newer, for example of a virtual environment, which needs no ucspid in "
            "it. Without it python3 in PATH; needs python or module."
        ),
    ] = None
    watch: Annotated[bool, Meta(description="Import again when an imported file has changed.")] = False
    tls: Annotated[
        TlsSection | TlsMode | None,
        Meta(
            description="TLS: a mapping, or the mode alone, if the file's tls has all else. Without it the "
            "service has none."
        ),
    ] = None
    argv0: Annotated[
        ProgramText | None,
        Meta(
            description="What the program sees as its own name, in place of the first word of program: for "
            "tcpd and others that use it."
        ),
    ] = None


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    user: Annotated[
        Account,
        Meta(description="The event loop's user, when started as root; services default to it. Never root."),
    ] = key(default_factory=_made(Account("nobody")))
    group: Annotated[
        Account | None, Meta(description="The event loop's group. Without it the user's own.")
    ] = None
    control: Annotated[
        Path | ControlSection | None,
        Meta(
            description="Path of the control socket, relative to the file's directory. Its directory is "
            "created if it is missing. Or a mapping that also says who may use it: control, below."
        ),
    ] = None
    nameservers: Annotated[
        list[Nameserver],
        Meta(
            max_length=MAX_NAMESERVERS,
            description="Resolvers to ask for names, in place of those in /etc/resolv.conf.",
        ),
    ] = key(default_factory=list)
    launcher: Annotated[
        Literal["auto", "native", "python"],
        Meta(
            description="What starts the programs: the launcher in C, the one in Python, or the former where "
            "it was built."
        ),
    ] = "auto"
    stop: Annotated[
        Literal["wait", "exit"],
        Meta(
            description="What SIGTERM does: wait for sessions and end them after drain_timeout, or exit at "
            "once while they go on."
        ),
    ] = "wait"
    tls: Annotated[
        TlsDefaults,
        Meta(description="The processes that do TLS, and what services with tls use that do not say it."),
    ] = key(default_factory=TlsDefaults)
    watchdog: Annotated[
        Lifetime | None,
        Meta(description="How long the event loop or a TLS process may hang before it is replaced."),
    ] = None
    web: Annotated[
        WebSection | None, Meta(description="Metrics and a status page. Needs the extra web: ucspid[web].")
    ] = None
    log: Annotated[LogSection, Meta(description="The log.")] = key(default_factory=LogSection)
    limits: Annotated[LimitsSection, Meta(description="Limits of the whole daemon.")] = key(
        default_factory=LimitsSection
    )
    defaults: Annotated[SettingsSection, Meta(description="Defaults for all services.")] = key(
        default_factory=SettingsSection
    )
    services: Annotated[
        dict[ServiceName, ServiceSection], Meta(min_length=1, description="The services, by name.")
    ]
