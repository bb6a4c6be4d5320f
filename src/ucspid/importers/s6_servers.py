"""Command lines of s6-tcpserver with what may stand between it and the program, and the tools of s6."""

from collections.abc import Callable

from ucspid.importers.banners import set_banner
from ucspid.importers.chain import CommandChain, Tool, Words, apply_limits, nothing, read_directory
from ucspid.importers.endpoints import add_unix_socket
from ucspid.importers.s6_rules import set_s6_rules
from ucspid.importers.tcp_servers import last, listen, set_backlog, set_count

_ACCESS = "v:WwDdHhRrPpB:l:t:i:x:"
_SERVER = "qQvDd1Uc:C:b:u:g:G:46"
_APPLY = "zu:g:G:U"
_TOO_MANY = 40


def s6_tcpserver(chain: CommandChain, argv: Words) -> None:
    """s6-tcpserver: at most 40 connections, and 40 of one client, if it does not say otherwise."""
    options, rest = chain.options(argv, _SERVER)
    host, port = (*rest, "", "")[:2]
    listen(chain, host, port)
    _identity(chain, options)
    set_count(chain, options.get("c", str(_TOO_MANY)))
    set_backlog(chain, options.get("b"))
    if _set_most_of_one(chain, options):
        chain.service.settings["ipv6_prefix"] = 128
    program = rest[2:]
    if program and program[0].rpartition("/")[2] == "s6-tcpserver-access":
        program = _access(chain, program[1:])
    chain.finish(program)


def _set_most_of_one(chain: CommandChain, options: dict[str, str]) -> bool:
    """Set the limit of connections of one client; return whether there is one."""
    per_client = options.get("C", str(_TOO_MANY))
    limited = per_client.isdecimal() and int(per_client) > 0
    if limited:
        chain.service.settings["max_per_ip"] = min(int(per_client), 65536)
    return limited


def _access(chain: CommandChain, argv: Words) -> Words:
    """s6-tcpserver-access: names, rules, a banner."""
    options, rest = chain.options(argv, _ACCESS)
    if lookup := _lookup(options):
        chain.service.settings["lookup"] = lookup
    if "D" in options:
        chain.service.settings["nodelay"] = True
    if "B" in options:
        set_banner(chain.service, chain.place, options["B"])
    for letter in "ix":
        if letter in options:
            set_s6_rules(chain.service, chain.place, chain.host, chain.path(options[letter]))
    return rest


def _lookup(options: dict[str, str]) -> dict[str, bool | str]:
    """Return what is looked up: names, unless told otherwise."""
    lookup: dict[str, bool | str] = {}
    if last(options, "hH") != "H":
        lookup |= {"remote_host": True, "local_host": True}
        if last(options, "pP") == "p":
            lookup["paranoid"] = True
    if "l" in options:
        lookup["local_host"] = options["l"]
    if last(options, "rR") == "r":
        lookup["ident"] = True
    timeout = options.get("t", "0")
    if timeout.isdecimal() and int(timeout) and lookup:
        lookup["timeout"] = f"{max(100, min(int(timeout), 60000))}ms"
    return lookup


def _identity(chain: CommandChain, options: dict[str, str]) -> None:
    if "U" in options:
        chain.become_numbers(chain.env.get("UID"), chain.env.get("GID"))
        groups = chain.env.get("GIDLIST", "")
    else:
        chain.become_numbers(options.get("u"), options.get("g"))
        groups = options.get("G", "")
    if groups:
        chain.groups = [int(group) for group in groups.split(",") if group.isdecimal()]


def s6_ipcserver(chain: CommandChain, argv: Words) -> None:
    """s6-ipcserver: a Unix socket, for all if it does not say otherwise; limits are by user."""
    options, rest = chain.options(argv, "qQvd1DUc:C:b:u:g:G:a:pP")
    name, *program = rest or [""]
    _identity(chain, options)
    set_count(chain, options.get("c", str(_TOO_MANY)))
    set_backlog(chain, options.get("b"))
    _set_most_of_one(chain, options)
    add_unix_socket(chain.service, chain.path(name), {"mode": f"0{options.get('a', '777').lstrip('0')}"})
    if not name:
        chain.cannot("there is no path", "correct the command")
    if program and program[0].rpartition("/")[2] == "s6-ipcserver-access":
        access, program = chain.options(program[1:], "v:Eel:i:x:")
        if {"i", "x"} & set(access):
            chain.cannot(
                "rules of s6-ipcserver-access are not read", "write them: uid:, gid: and default_action"
            )
    chain.finish(program)


def s6_tlsserver(chain: CommandChain, argv: Words) -> None:
    """s6-tlsserver: TLS."""
    chain.service.settings["program"] = argv or ["none"]
    chain.cannot("s6-tlsserver speaks TLS", "keep it, or let ucspid start s6-tlsd before the program")


def unixserver(chain: CommandChain, argv: Words) -> None:
    """Unixserver of ucspi-unix, ipcserver of ucspi-ipc: a Unix socket."""
    chain.service.settings["program"] = argv or ["none"]
    chain.cannot("its options for a Unix socket are not read", "write them: listen: unix:PATH")


def s6_envdir(chain: CommandChain, argv: Words) -> Words:
    """s6-envdir."""
    _, rest = chain.options(argv, "IifnL:c:")
    read_directory(chain, rest[0] if rest else "")
    return rest[1:]


def s6_envuidgid(chain: CommandChain, argv: Words) -> Words:
    """s6-envuidgid: UID, GID and GIDLIST of a user for a -U that follows."""
    options, rest = chain.options(argv, "nuigBD:")
    if rest:
        user, _, group = rest[0].partition(":")
        uid, gid = chain.ids(user)
        named = chain.host.accounts.group(group) if group else None
        wanted = {"UID": str(uid), "GID": str(gid if named is None else named)}
        chain.env |= {
            name: value for name, value in wanted.items() if not set("ugi") & set(options) or name == "UID"
        }
    return rest[1:]


def s6_setuidgid(chain: CommandChain, argv: Words) -> Words:
    """s6-setuidgid, with user:group too."""
    if argv:
        user, colon, group = argv[0].partition(":")
        chain.become(user)
        if colon:
            chain.group = group
            if chain.host.accounts.group(group) is None:
                chain.cannot(f"there is no group {group}", "create it, or remove the service")
    return argv[1:]


def s6_applyuidgid(chain: CommandChain, argv: Words) -> Words:
    """s6-applyuidgid."""
    options, rest = chain.options(argv, _APPLY)
    _identity(chain, options)
    return rest


def s6_softlimit(chain: CommandChain, argv: Words) -> Words:
    """s6-softlimit."""
    options, rest = chain.options(argv, "hHm:a:c:d:f:l:o:p:r:s:t:")
    apply_limits(chain, "s6-softlimit", {key: value for key, value in options.items() if key not in "hH"})
    return rest


def s6_setlock(chain: CommandChain, argv: Words) -> Words:
    """s6-setlock."""
    _, rest = chain.options(argv, "nNwrd:t:")
    return rest[1:]


def fdmove(chain: CommandChain, argv: Words) -> Words:
    """Fdmove and fdclose of execline: where descriptors go is the daemon's."""
    _, rest = chain.options(argv, "c")
    return rest[2:]


def redirfd(chain: CommandChain, argv: Words) -> Words:
    """Redirfd of execline."""
    _, rest = chain.options(argv, "rwuacxnb")
    return rest[2:]


SERVERS: dict[str, Callable[[CommandChain, Words], None]] = {
    "ipcserver": unixserver, "s6-ipcserver": s6_ipcserver, "s6-tcpserver": s6_tcpserver,
    "s6-tcpserver4": s6_tcpserver, "s6-tcpserver6": s6_tcpserver, "s6-tlsserver": s6_tlsserver,
    "unixserver": unixserver,
}  # fmt: skip
TOOLS: dict[str, Tool] = {
    "fdclose": lambda _chain, argv: argv[1:], "fdmove": fdmove, "redirfd": redirfd,
    "s6-applyuidgid": s6_applyuidgid, "s6-envdir": s6_envdir, "s6-envuidgid": s6_envuidgid,
    "s6-setlock": s6_setlock, "s6-setsid": nothing, "s6-setuidgid": s6_setuidgid,
    "s6-softlimit": s6_softlimit, "with-contenv": nothing,
}  # fmt: skip
