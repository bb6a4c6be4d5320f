"""The text of ucspid explain, for people: a line for each thing, the environment at the end."""

import grp
import json
import pwd
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from ucspid.net.address import Networks
from ucspid.net.unix import PREFIX, UnixClient
from ucspid.plan import Lookup, Proxy, Rate, Service, Tls
from ucspid.policy.client_facts import NO_FACTS, NO_TLS, ClientFacts, TlsFacts
from ucspid.policy.environ import local_variables, proxy_variables, variables
from ucspid.profile import Profile
from ucspid.rules.rule import Rule

_WIDTH = 13
_UNKNOWN = b"?"
"""What stands for values that differ from connection to connection."""
_VARYING = (b"LOCALIP", b"PORT", b"CONN_ID", b"LOCALPATH", b"REMOTEPID")
"""How the names of variables end that do."""


class ExplainedClient(NamedTuple):
    """A client: its address without mapping and scope, its name and its ident user, if it has any.

    balancer is the address of the one that it comes by, tls what its handshake shows.
    """

    ip: str
    host: bytes | None
    info: bytes | None
    balancer: str | None = None
    tls: TlsFacts = NO_TLS


def explanation(service: Service, client: ExplainedClient, rule: Rule, *, early: bool) -> Iterator[str]:
    """Yield the lines; early says that the rules decide by the client's address alone."""
    facts = [
        ("service", service.name),
        ("client", _client(client)),
        *([] if service.proxy is None else [("proxy", _proxy(service.proxy, client.balancer))]),
        *_notes_of_place(service, client),
        ("rule", _rule(rule)),
        ("verdict", rule.verdict),
        ("decided by", "the address alone, before any lookup" if early else "address and names, if any"),
        ("names", _names(service, client, refused=early and rule.verdict == "deny")),
        *(("note", note) for note in _notes(service.lookup, client)),
        *(("note", note) for note in _notes_of_handshake(service.tls, client.tls)),
    ]
    if rule.verdict == "deny":
        facts.append(("message", _message(rule.message or "")))
    else:
        facts += [*_limits(service, client, rule), *_program(service)]
        facts += (("environment", variable) for variable in _environment(service, client, rule))
    before = ""
    for label, text in facts:
        yield f"{label if label != before else '':{_WIDTH}}{text}"
        before = label


def _client(client: ExplainedClient) -> str:
    words: list[str] = [client.ip]
    if isinstance(client.ip, UnixClient):
        words.append(f"group id {client.ip.gid}")
    if client.host is not None:
        words.append(f"name {_shown(client.host)}")
    if client.info is not None:
        words.append(f"ident user {_shown(client.info)}")
    if client.tls.sni is not None:
        words.append(f"asks for {_shown(client.tls.sni)}")
    words += [f"certificate for {_shown(name)}" for name in client.tls.names]
    if client.tls.fingerprint is not None:
        words.append(f"certificate {_shown(client.tls.fingerprint)}")
    return ", ".join(words)


def _proxy(proxy: Proxy, balancer: str | None) -> str:
    if balancer is not None:
        return f"the client that {balancer} names in its header"
    others = "refused (not_proxied)" if proxy.others == "refuse" else "served as clients themselves"
    return f"named in the header of a balancer, {', '.join(proxy.from_)}; other peers are {others}"


def _rule(rule: Rule) -> str:
    if rule.where == "default":
        return "none matches: the service's default"
    where = _shown(_encode(rule.where))
    return where if rule.key is None else f"{where}: {_shown(rule.key) or '(everyone)'}"


def _names(service: Service, client: ExplainedClient, *, refused: bool) -> str:
    if isinstance(client.ip, UnixClient):
        return "none looked up: the client is a process of this host"
    return _lookups(service.lookup, refused=refused)


def _lookups(lookup: Lookup, *, refused: bool) -> str:
    wanted = [
        *(["remote_host (paranoid)" if lookup.paranoid else "remote_host"] if lookup.remote_host else []),
        *(["local_host"] if lookup.local_ptr else []),
        *(["ident"] if lookup.ident else []),
    ]
    if not wanted:
        return "none looked up"
    made = "none looked up for this client, else" if refused else "looked up:"
    return f"{made} {', '.join(wanted)}, within {lookup.timeout:g}s"


def _notes(lookup: Lookup, client: ExplainedClient) -> Iterator[str]:
    for given, wanted, option, key in (
        (client.host, lookup.remote_host, "--host", "remote_host"),
        (client.info, lookup.ident, "--info", "ident"),
    ):
        if given is not None and not wanted:
            yield f"lookup.{key} is off: without it what {option} says is never known, nor matched by a rule"


def _notes_of_handshake(tls: Tls | None, shown: TlsFacts) -> Iterator[str]:
    certificate = bool(shown.names or shown.fingerprint)
    if (tls is None or tls.mode != "implicit") and (shown.sni is not None or certificate):
        yield "tls is not implicit: what --sni, --san and --sha256 say is never known, nor matched by a rule"
    elif certificate and tls is not None and tls.context.client_certificates == "none":
        yield "tls.client_certificates is none: what --san and --sha256 say is never known to a rule"


def _notes_of_place(service: Service, client: ExplainedClient) -> Iterator[tuple[str, str]]:
    over_unix = client.balancer == PREFIX if client.balancer else isinstance(client.ip, UnixClient)
    if not any((listen.family == "unix") is over_unix for listen in service.listen):
        kind = "Unix socket" if over_unix else "port"
        yield "note", f"the service listens on no {kind}: no such client can connect"


def _message(message: str) -> str:
    return json.dumps(message, ensure_ascii=False) if message else "no message: the connection is closed"


def _limits(service: Service, client: ExplainedClient, rule: Rule) -> Iterator[tuple[str, str]]:
    if client.ip in Networks(service.exempt):
        yield "max_per_ip", "none: the client is exempt"
        yield "rate_per_ip", "none: the client is exempt"
        return
    most = service.max_per_ip if rule.max_per_ip is None else rule.max_per_ip
    rate = service.rate_per_ip if rule.rate_per_ip is None else rule.rate_per_ip
    yield "max_per_ip", _limit(None if most is None else str(most), by_rule=rule.max_per_ip is not None)
    yield "rate_per_ip", _limit(_rate(rate), by_rule=rule.rate_per_ip is not None)
    yield "over limit", _message(rule.message or service.refuse_message)


def _limit(shown: str | None, *, by_rule: bool) -> str:
    return "no limit" if shown is None else f"{shown} (of the {'rule' if by_rule else 'service'})"


def _rate(rate: Rate | None) -> str | None:
    return None if rate is None else f"{rate.count} in {rate.seconds:g}s, {rate.burst} at once"


def _program(service: Service) -> Iterator[tuple[str, str]]:
    profile = service.profile
    yield "program", _shown(_encode(service.executable))
    yield "arguments", _shown(_encode(shlex.join(service.argv)))
    yield "runs as", _identity(profile)
    if profile.root is not None:
        yield "chroot", _shown(_encode(profile.root))
    yield "directory", _shown(_encode(profile.cwd or "/"))


def _identity(profile: Profile) -> str:
    if profile.uid is None:
        return "whoever starts the daemon"
    groups = ", ".join(_group(gid) for gid in profile.groups or ()) or "none"
    return f"user {_user(profile.uid)}, group {_group(profile.gid)}, groups {groups}"


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


def _group(gid: int | None) -> str:
    try:
        return str(gid) if gid is None else f"{grp.getgrgid(gid).gr_name} ({gid})"
    except KeyError:
        return str(gid)


def _environment(service: Service, client: ExplainedClient, rule: Rule) -> list[str]:
    """Return NAME=VALUE sorted: the rule wins over the connection, and that over the service."""
    fixed = {_encode(name): _encode(value) for name, value in service.env}
    result = fixed | _connection(service, client) | dict(rule.env)
    return sorted(f"{_shown(name)}={_shown(value)}" for name, value in result.items())


def _connection(service: Service, client: ExplainedClient) -> dict[bytes, bytes]:
    """Return the variables that describe the connection, in the service's dialect."""
    lookup, dialect = service.lookup, service.env_dialect
    local_host = _UNKNOWN if lookup.local_ptr else None
    if lookup.local_host is not None:
        local_host = _encode(lookup.local_host)
    found = ClientFacts(remote_host=client.host, local_host=local_host, info=client.info)
    result = {}
    own = proxy_variables(client.balancer or "?", "?")
    if service.proxy is None or client.balancer == PREFIX or set(service.proxy.from_) == {PREFIX}:
        own = ()
    local = local_variables("::1" if ":" in client.ip else "127.0.0.1", 0, dialect)
    if isinstance(client.ip, UnixClient):
        local, found = local_variables(PREFIX, 0, dialect), NO_FACTS
    for item in variables(local, client.ip, 0, 0, dialect, found, own).split(b"\0"):
        name, _, value = item.partition(b"=")
        result[name] = _UNKNOWN if name.endswith(_VARYING) else value
    return result


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _shown(value: bytes) -> str:
    """Return text that is safe on a terminal: what is not printable stands as an escape."""
    text = value.decode("utf-8", "backslashreplace")
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )
