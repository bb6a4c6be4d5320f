"""ucspid explain: what the rules of a service say to a client, and what its program would get."""

import argparse
import pwd
import sys
from collections.abc import Iterable, Iterator

from ucspid.cli.explanation import ExplainedClient, explanation
from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.net.address import Networks, parse_address
from ucspid.net.unix import PREFIX, UnixClient, parse_client
from ucspid.plan import Plan, RulesFile, Service
from ucspid.policy.client_facts import TlsFacts
from ucspid.records import replace
from ucspid.rules.bounds import read
from ucspid.rules.lookup import PARSERS
from ucspid.rules.networks import YamlRules
from ucspid.rules.rule import Rule, Rules
from ucspid.tools.tcprulescheck import report


def main(options: argparse.Namespace) -> int:
    """Print the explanation. Raises ConfigError for a wrong file, service or address, OSError."""
    service = _service(load(options.config, certificates=False), options)
    client = _client(options)
    _check_balancer(service, client.balancer)
    rules = rules_of(service)
    rule = answer(service, rules, client)
    if options.tcprulescheck:
        if not isinstance(service.rules, RulesFile):
            raise ConfigError([f"--tcprulescheck: the rules of {service.name} are not in a tcprules file"])
        sys.stdout.buffer.write(report(rule))
    else:
        early = rules.decide_early(client.ip) is not None
        print("\n".join(explanation(service, client, rule, early=early)))
    return 0


def rules_of(service: Service) -> Rules:
    """Return the rules of a service, read anew if they are in a file. Raises OSError, ConfigError."""
    if isinstance(service.rules, RulesFile):
        file = service.rules
        return PARSERS[file.kind](read(file.path), file.path)
    return YamlRules(service.rules or (), service.default_action)


def answer(service: Service, rules: Rules, client: ExplainedClient) -> Rule:
    """Return the rule for a client, with the service's default where none matches."""
    rule = rules.match(client.ip, client.host, client.info, client.tls)
    return replace(rule, verdict=service.default_action) if rule.where == "default" else rule


def _service(plan: Plan, options: argparse.Namespace) -> Service:
    for service in plan.services:
        if service.name == options.service:
            return service
    names = ", ".join(service.name for service in plan.services)
    raise ConfigError([f"{options.config}: there is no service {options.service}, only {names}"])


def _check_balancer(service: Service, balancer: str | None) -> None:
    """Raise ConfigError for a balancer that the service does not know."""
    if balancer is None:
        return
    if service.proxy is None:
        raise ConfigError([f"--proxy: {service.name} has no balancers: there is no key proxy"])
    known = service.proxy.from_
    if balancer not in known and (balancer == PREFIX or balancer not in Networks(_networks(known))):
        others = "refused" if service.proxy.others == "refuse" else "served as clients themselves"
        raise ConfigError(
            [f"--proxy: {balancer} is not in proxy.from of {service.name}: such peers are {others}"]
        )


def _networks(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if text != PREFIX)


def _client(options: argparse.Namespace) -> ExplainedClient:
    try:
        ip = _unix_client(options.ip) if options.ip.startswith(PREFIX) else str(parse_address(options.ip))
        balancer = options.proxy
        if balancer and balancer != PREFIX:
            balancer = str(parse_address(balancer))
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    return ExplainedClient(ip, _bytes(options.host), _bytes(options.info), balancer, _handshake(options))


def _unix_client(text: str) -> UnixClient:
    """Return a client over a Unix socket; without a group it has that of passwd(5). Raises ValueError."""
    uid, gid = parse_client(text)
    if gid is None:
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            raise ValueError(f"user id {uid} is not in passwd(5): add its group, {text},gid=NUMBER") from None
    return UnixClient.of(uid, gid)


def _handshake(options: argparse.Namespace) -> TlsFacts:
    names = tuple(name.lower().encode("utf-8", "surrogateescape") for name in options.san)
    fingerprint = options.sha256 and options.sha256.lower().replace(":", "")
    return TlsFacts(_bytes(options.sni), names, _bytes(fingerprint))


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")
