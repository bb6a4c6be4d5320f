"""The access rules of all services: lists as they stand in the file, and files that hold rules."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ucspid.config import schema
from ucspid.config.identities import Identities, UserIds
from ucspid.config.probe import DENIED
from ucspid.config.problems import Problems, under
from ucspid.config.rulefiles import Trouble, examine_as, kind_of
from ucspid.config.ruleforms import ClientPattern
from ucspid.config.settings import Place
from ucspid.plan import Lookup, RulesFile, RuleSpec, Tls
from ucspid.records import dataclass, field
from ucspid.rules.bounds import too_large

MAX_BYTES = 32 << 20
"""What the lists of rules of all services may take in a plan, a shared one for each service."""

MAX_RATES = 16
"""Different rates that the rules of a service may have: each takes memory for many clients."""

_AROUND = 150
"""Bytes that a rule takes in a plan besides its texts, at most."""


@dataclass(frozen=True, slots=True)
class _List:
    """A list of rules, and by the trait of patterns the path of the first that has it."""

    specs: tuple[RuleSpec, ...]
    first: Mapping[str, str | None]
    size: int


@dataclass(slots=True)
class Access:
    """Collects the rules of services; name is the configuration file's, base its directory."""

    name: str
    base: Path
    identities: Identities
    problems: Problems
    _lists: dict[str, _List] = field(default_factory=dict)
    _files: dict[RulesFile, str] = field(default_factory=dict)
    _size: int = 0

    def rules(
        self, service: str, given: schema.ServiceSection, place: Place, tls: Tls | None, *, over_unix: bool
    ) -> tuple[RuleSpec, ...] | RulesFile | None:
        """Return the rules of a service: None where they decide nothing; over_unix: clients come so, too."""
        path = place("rules")
        if isinstance(given.rules, str):
            file = RulesFile(
                path=str(self.base / given.rules), kind=kind_of(given.rules), unusable=given.unusable_rules
            )
            self._files.setdefault(file, path)
            return file
        if not given.rules:
            return () if given.default_action == "deny" else None
        if path not in self._lists:
            self._lists[path] = self._list(path, given.rules)
        rules = self._lists[path]
        for trait, what, key in (("names", "a host name", "remote_host"), ("users", "a user", "ident")):
            if (path_of := rules.first[trait]) and not getattr(given.lookup, key) and self._known(place, key):
                self._never(path_of, what, service, f"lookup.{key}: yes")
        listens = under(under("services", service), "listen")
        if (path_of := rules.first["processes"]) and not self.problems.wrong(listens) and not over_unix:
            self._never(path_of, "a process", service, "listen: unix:PATH")
        if not self.problems.wrong(under(under("services", service), "tls")):
            self._check_handshakes(rules, service, tls)
        self._check_size(path, rules)
        return rules.specs

    def lookup(self, given: schema.ServiceSection, place: Place) -> Lookup:
        """Return which names a service has looked up."""
        wanted = given.lookup
        if wanted.paranoid and not wanted.remote_host and self._known(place, "remote_host"):
            self.problems.add(f"{place('lookup')}.paranoid", "needs remote_host: yes")
        return Lookup(
            remote_host=wanted.remote_host,
            paranoid=wanted.paranoid,
            local_host=wanted.local_host.name,
            local_ptr=wanted.local_host.look_up,
            ident=wanted.ident,
            any_ident_reply=wanted.any_ident_reply,
            ident_timeout=None if wanted.ident_timeout is None else float(wanted.ident_timeout),
            timeout=float(wanted.timeout),
            before_rules=wanted.before_rules,
        )

    def read_files(self, user: UserIds, label: str, *, others_may: bool) -> dict[RulesFile, tuple[str, ...]]:
        """Return the variables that each file's rules set, and report what is wrong in the files.

        They are read as the event loop will read them, each once; label names its user. With
        others_may, one that this user may not read is not wrong for that.
        Raises OSError where no child can be made to do it.
        """
        found = {}
        answers = examine_as(user, list(self._files)) if self._files else []
        for (file, path), answer in zip(self._files.items(), answers, strict=True):
            if not isinstance(answer, Trouble):
                found[file] = answer.names
            elif file.unusable != "keep":
                continue
            elif answer.problems:
                self.problems.add_elsewhere(path, answer.problems)
            elif not (others_may and answer.why == DENIED):
                self.problems.add(path, f"{file.path}: {answer.why} (read as {label})")
        return found

    def _list(self, path: str, given: Sequence[schema.RuleSection]) -> _List:
        rules = list(self.problems.items(path, given))
        specs = tuple(self._spec(item, rule) for item, rule in rules)
        if len({spec.rate_per_ip for spec in specs} - {None}) > MAX_RATES:
            self.problems.add(path, f"more than {MAX_RATES} different rates")
        first = {trait: self._first_pattern(rules, trait) for trait in ClientPattern.TRAITS}
        return _List(specs, first, sum(map(_size, specs)))

    def _check_handshakes(self, rules: _List, service: str, tls: Tls | None) -> None:
        """Report patterns about handshakes that come too late for rules, or never."""
        path, certificate_path = rules.first["handshakes"], rules.first["certificates"]
        if tls is None or tls.mode != "implicit":
            if path is not None:
                self._never(path, "what a handshake shows", service, "tls: implicit")
        elif certificate_path is not None and tls.context.client_certificates == "none":
            needed = "tls.client_certificates: request or require"
            self._never(certificate_path, "a certificate", service, needed)

    def _spec(self, path: str, rule: schema.RuleSection) -> RuleSpec:
        env = tuple((str(name), str(value)) for name, value in rule.env.items())
        if why := too_large((name.encode(), value.encode()) for name, value in env):
            self.problems.add(f"{path}.env", why)
        if (
            rule.burst is not None
            and rule.rate_per_ip is None
            and not self.problems.wrong(f"{path}.rate_per_ip")
        ):
            self.problems.add(f"{path}.burst", "needs rate_per_ip")
        if rule.deny.said:
            for key in ("env", "max_per_ip", "rate_per_ip"):
                if getattr(rule, key):
                    self.problems.add(f"{path}.{key}", "has no effect in a rule that denies: remove it")
        line, _column = self.problems.places[path]
        return RuleSpec(
            from_=tuple(
                self._pattern(item, pattern)
                for item, pattern in self.problems.items(f"{path}.from", rule.from_)
            ),
            verdict="deny" if rule.deny.said else "allow",
            env=env,
            max_per_ip=rule.max_per_ip,
            rate_per_ip=None if rule.rate_per_ip is None else rule.rate_per_ip.bucket(rule.burst),
            message=None if rule.message is None else str(rule.message),
            where=f"{self.name}:{line}",
        )

    def _pattern(self, path: str, pattern: ClientPattern) -> str:
        """Return a pattern as a plan has it: with the number of a user or a group in place of its name."""
        if pattern.account is None:
            return str(pattern)
        kind, account = pattern.account
        find = self.identities.owner if kind == "uid" else self.identities.group
        return f"{kind}:{find(account, path)}"

    def _first_pattern(self, rules: Sequence[tuple[str, schema.RuleSection]], trait: str) -> str | None:
        """Return the path of the first pattern that has the trait."""
        for path, rule in rules:
            for item, pattern in self.problems.items(f"{path}.from", rule.from_):
                if getattr(pattern, trait):
                    return item
        return None

    def _known(self, place: Place, key: str) -> bool:
        """Say whether a key of lookup is what the file says, and not a default in place of a mistake."""
        lookup = place("lookup")
        return not self.problems.wrong_as_such(lookup) and not self.problems.wrong(f"{lookup}.{key}")

    def _never(self, path: str, what: str, service: str, key: str) -> None:
        self.problems.add(path, f"{what} matches no client: service {service} needs {key} for it")

    def _check_size(self, path: str, rules: _List) -> None:
        before, self._size = self._size, self._size + rules.size
        if before <= MAX_BYTES < self._size:
            self.problems.add(
                path,
                f"the rules of all services take over {MAX_BYTES} bytes: put what they share into a file",
            )


def rule_names(specs: Sequence[RuleSpec]) -> tuple[str, ...]:
    """Return the variables that rules set, sorted."""
    return tuple(sorted({name for spec in specs for name, _ in spec.env}))


def _size(spec: RuleSpec) -> int:
    return _AROUND + len(json.dumps([spec.from_, spec.env, spec.message, spec.where]))
