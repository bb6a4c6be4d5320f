"""From tcpserver's options to the plan that the daemon carries out. Pure, but for where the program is.

The same comes of the file that config_file.py writes: tests compare both.
"""

import os
from collections.abc import Mapping
from typing import Literal

from ucspid.net.endpoint import Endpoint
from ucspid.plan import LauncherKind, Log, Lookup, Plan, RulesFile, Service
from ucspid.policy.environ import inheritable
from ucspid.profile import Profile
from ucspid.tcpserver.options import ERRORS, MAX_ID, QUIET, VERBOSE, CommandLine, bucket, number
from ucspid.tools.options import ipv4

LEVELS: dict[int, Literal["none", "warning", "info"]] = {QUIET: "none", ERRORS: "warning", VERBOSE: "info"}
"""Levels of the log by how much tcpserver is to say."""

DEFAULT_PATH = "/bin:/usr/bin"
"""Where programs are looked for without PATH in the environment."""

LOOKUP_SECONDS = 60.0
"""For all names of a connection together. tcpserver's own resolver may take longer for each."""

MAX_SERVERS = 16
"""Name servers that are asked, as by tcpserver."""
MIN_IDENT_SECONDS = 0.1
MAX_CONNECTIONS = 65536
MAX_BACKLOG = 65535


def plan(
    options: CommandLine,
    listen: Endpoint,
    environ: Mapping[str, str],
    folder: str,
    ids: Profile,
    loop: Profile,
    launcher: LauncherKind,
) -> Plan:
    """Return the plan of a command line that listens at an address.

    folder is the working directory; ids and loop have user, group and groups of the program and of the
    event loop; launcher is what starts the program.
    """
    return Plan(
        uid=loop.uid,
        gid=loop.gid,
        groups=loop.groups,
        control=None if options.control is None else os.path.join(folder, options.control),
        nameservers=nameservers(environ),
        log=Log(format="tcpserver", level=LEVELS[options.verbosity]),
        max_connections=max(1, min(options.limit, MAX_CONNECTIONS)),
        services=(_service(options, listen, environ, folder, ids),),
        launcher=launcher,
        stop="exit",
    )


def ident_seconds(options: CommandLine) -> float:
    """Return how long to wait for an ident server: within the bounds of what the file may say."""
    return min(max(float(options.ident_timeout), MIN_IDENT_SECONDS), LOOKUP_SECONDS)


def wanted_ids(options: CommandLine) -> Profile:
    """Return the user, the group and the groups that the program is to have: what is not given stays."""
    uid, gid = options.uid & MAX_ID, options.gid & MAX_ID
    return Profile(uid=uid or None, gid=gid or None, groups=(gid,) if gid else None)


def service_name(options: CommandLine) -> str:
    """Return the name that the service has in files and in the status."""
    word = (options.port or "").lower()
    return word if word.isascii() and word[:1].isalpha() else f"port-{number(word)}"


def nameservers(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses of name servers that DNSCACHEIP has, with their port."""
    text = os.fsencode(environ.get("DNSCACHEIP", ""))
    if b":" in text:
        try:
            return (str(Endpoint.parse(f"[{os.fsdecode(text.split()[0])}]:53")),)
        except ValueError:
            return ()
    servers = []
    while scanned := ipv4(text := text.lstrip(b".")):
        address, text = scanned
        servers.append(str(Endpoint(".".join(map(str, address)), 53)))
    return tuple(servers[:MAX_SERVERS])


def _service(
    options: CommandLine, listen: Endpoint, environ: Mapping[str, str], folder: str, ids: Profile
) -> Service:
    path = environ.get("PATH", DEFAULT_PATH)
    env = inheritable(environ)
    rules = None
    if options.rules is not None:
        rules = RulesFile(
            path=os.path.join(folder, options.rules),
            kind="cdb",
            unusable="allow_missing" if options.allow_missing_rules else "refuse",
        )
    return Service(
        name=service_name(options),
        listen=(listen,),
        executable=executable(options.program[0], path, folder),
        argv=tuple(options.program),
        env=tuple(sorted(env.items())),
        profile=ids,
        stderr="inherit",
        max_connections=min(options.limit, MAX_CONNECTIONS),
        max_per_ip=options.max_per_ip,
        rate_per_ip=bucket(options.rate_per_ip),
        rate=bucket(options.rate),
        refuse_message=options.refuse_message,
        nodelay=options.nodelay,
        backlog=min(options.backlog, MAX_BACKLOG),
        banner=options.banner,
        kill_ip_options=not options.keep_ip_options,
        rules=rules,
        lookup=_lookup(options),
        env_dialect="tcp6",
        throttle=None,
    )


def _lookup(options: CommandLine) -> Lookup:
    """Return what is looked up; before the rules decide if what was found is to be logged."""
    return Lookup(
        remote_host=options.remote_host,
        paranoid=options.paranoid and options.remote_host,
        local_host=options.local_name,
        local_ptr=options.local_name is None,
        ident=options.ident,
        any_ident_reply=True,
        ident_timeout=ident_seconds(options),
        timeout=LOOKUP_SECONDS,
        before_rules=options.verbosity == VERBOSE,
    )


def executable(program: str, path: str, folder: str) -> str:
    """Return the file that a program's name stands for, as execvp(3) finds it: absolute.

    One that is not there is the last place where it was looked for.
    """
    if "/" in program:
        return os.path.join(folder, program)
    there = []
    file = ""
    for item in path.split(":"):
        file = os.path.join(folder, item, program)
        if os.access(file, os.X_OK) and not os.path.isdir(file):
            return file
        if os.path.exists(file):
            there.append(file)
    return there[-1] if there else file
