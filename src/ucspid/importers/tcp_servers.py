"""ShellCommand lines of tcpserver, sslserver and tcpsvd, from their own options to the program."""

from collections.abc import Callable
from typing import Any

from ucspid.importers.banners import set_banner
from ucspid.importers.chain import CommandChain, Words, become_by_name
from ucspid.importers.endpoints import listen_on
from ucspid.importers.ipsvd import set_instructions, unescaped
from ucspid.importers.tcprules_source import set_rules_file
from ucspid.tcpserver.options import CommandLine, UsageError, parse

MAX_COUNT = 65536
_SSLSERVER = "1346dDvVqQhHrRUXx:t:T:u:g:l:b:B:c:pPoOw:eEsSnNmzZI:"
_TCPSVD = "hpEvVc:C:b:u:l:i:x:t:"
_MAX_TIMEOUT = 60


def tcpserver(chain: CommandChain, argv: Words) -> None:
    """Tcpserver of ucspi-tcp, and of ucspi-tcp6."""
    settings = chain.service.settings
    try:
        options = parse(argv, chain.env)
    except UsageError as error:
        settings["program"] = ["tcpserver", *argv]
        chain.cannot(f"tcpserver: {error}", "correct the command")
        return
    listen(chain, options.host or "0", options.port or "")
    chain.become_numbers(str(options.uid), str(options.gid))
    if chain.user == "root":
        chain.service.beside["user"] = "no -u: it ran as root"
    set_count(chain, str(options.limit))
    if options.backlog != CommandLine().backlog:
        set_backlog(chain, str(options.backlog))
    settings["lookup"] = _lookup(options)
    if options.rules is not None:
        path = chain.path(options.rules)
        set_rules_file(chain.service, chain.place, chain.host, path, may_lack=options.allow_missing_rules)
    if options.banner:
        set_banner(chain.service, chain.place, options.banner)
    if options.interface is not None:
        chain.note(f"-I {options.interface} bound it to an interface", "listen on an address of it")
    if options.nodelay:
        settings["nodelay"] = True
    _own(settings, options)
    chain.finish(options.program)


def _own(settings: dict[str, Any], options: CommandLine) -> None:
    """Set what only ucspid's own tcpserver has."""
    given = {
        "max_per_ip": options.max_per_ip,
        "rate_per_ip": options.rate_per_ip,
        "rate": options.rate,
        "refuse_message": options.refuse_message or None,
    }
    settings |= {key: value for key, value in given.items() if value is not None}


def sslserver(chain: CommandChain, argv: Words) -> None:
    """Sslserver of ucspi-ssl."""
    _, rest = chain.options(argv, _SSLSERVER)
    chain.service.settings["program"] = rest[2:] or ["none"]
    chain.cannot(
        "sslserver speaks TLS, which ucspid does not", "keep it, or put a TLS program before the program"
    )


def _lookup(options: CommandLine) -> dict[str, bool | str]:
    """Return what is looked up: everything, unless told otherwise."""
    found: dict[str, bool | str] = {"local_host": True if options.local_name is None else options.local_name}
    if options.remote_host:
        found["remote_host"] = True
        if options.paranoid:
            found["paranoid"] = True
    if options.ident:
        found["ident"] = True
        found["timeout"] = f"{max(1, min(options.ident_timeout, _MAX_TIMEOUT))}s"
    return found


def last(options: dict[str, str], letters: str) -> str:
    """Return which of some options is the last one; empty if none is there."""
    return next((letter for letter in reversed(options) if letter in letters), "")


def listen(chain: CommandChain, host: str, port: str) -> None:
    """Set where to listen: 0 is every IPv4 address, :0 of both families."""
    everywhere = {"0": "0.0.0.0", "": "0.0.0.0", ":0": "*"}  # noqa: S104
    if not port:
        chain.cannot("there is no port", "correct the command")
        return
    listen_on(chain.service, chain.place, chain.host, everywhere.get(host, host), port)


def set_count(chain: CommandChain, text: str) -> None:
    """Set the limit of connections; over it clients wait."""
    count = int(text) if text.isascii() and text.isdecimal() else 0
    if not count:
        chain.cannot(f"with -c {text} it accepts nobody", "set a limit above 0")
    chain.service.settings["max_connections"] = max(1, min(count, MAX_COUNT))


def set_backlog(chain: CommandChain, text: str | None) -> None:
    """Set the length of the kernel's queue, if it was given."""
    if text is not None and text.isascii() and text.isdecimal() and int(text):
        chain.service.settings["backlog"] = min(int(text), 65535)


def tcpsvd(chain: CommandChain, argv: Words) -> None:
    """Tcpsvd of ipsvd."""
    options, rest = chain.options(argv, _TCPSVD)
    host, port = (*rest, "", "")[:2]
    listen(chain, host, port)
    if "u" in options:
        become_by_name(chain, options["u"])
    set_count(chain, options.get("c", "30"))
    set_backlog(chain, options.get("b"))
    limited = "C" in options
    if limited:
        _per_host(chain, options["C"])
    lookup: dict[str, bool | str] = {}
    if "l" in options:
        lookup["local_host"] = options["l"]
    if "h" in options or "p" in options:
        lookup |= {"remote_host": True, "local_host": options.get("l", True)}
        lookup |= {"paranoid": True} if "p" in options else {}
    if lookup:
        chain.service.settings["lookup"] = lookup
    for letter in "ix":
        if letter in options:
            set_instructions(
                chain.service, chain.place, chain.host, chain.path(options[letter]), limited=limited
            )
    if "t" in options:
        chain.note(
            f"-t {options['t']} removed instructions that nobody used for so long", "remove them yourself"
        )
    if "E" in options:
        chain.service.remark("-E set no variables of the connection: here they are always set.")
    chain.finish(rest[2:])


def _per_host(chain: CommandChain, text: str) -> None:
    count, _, message = text.partition(":")
    if count.isdecimal() and int(count):
        chain.service.settings["max_per_ip"] = min(int(count), MAX_COUNT)
    if message:
        chain.service.settings["refuse_message"] = unescaped(message)


SERVERS: dict[str, Callable[[CommandChain, Words], None]] = {
    "sslserver": sslserver, "tcpserver": tcpserver, "tcpserver4": tcpserver, "tcpserver6": tcpserver,
    "tcpsvd": tcpsvd,
}  # fmt: skip
