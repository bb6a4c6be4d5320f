from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.errors import ConfigError
from ucspid.net.unix import UnixClient
from ucspid.plan import Rate, RuleSpec
from ucspid.policy.client_facts import NO_TLS, TlsFacts
from ucspid.rules.networks import YamlRules
from ucspid.rules.patterns import parse_pattern
from ucspid.rules.rule import Rule, Rules, Verdict

IPS = ["192.0.2.7", "192.0.2.200", "2001:db8::1", "2001:db8:9::1"]
HOSTS = [b"", b"a.b.example", b"A.B.Example", b"b.example", b"example", b".b.example", b"new"]
INFOS = [b"", b"u", b"v"]
PLACES = [
    *("*", "192.0.2.7", "192.0.2.0/25", "192.0.2.0/24", "0.0.0.0/0", "::/0", "2001:db8::1", "2001:db8::/32"),
    *("a.b.example", "B.example", ".b.example", ".example"),
]
PATTERN = st.sampled_from(PLACES) | st.sampled_from(PLACES).map("u@{}".format)
SPECS = st.lists(st.lists(PATTERN, max_size=3).map(tuple), max_size=6)
CLIENT = st.tuples(
    st.sampled_from(IPS), st.none() | st.sampled_from(HOSTS), st.none() | st.sampled_from(INFOS)
)


def spec(*from_: str, verdict: Verdict = "deny", where: str = "f:1") -> RuleSpec:
    return RuleSpec(
        from_=from_, verdict=verdict, env=(), max_per_ip=None, rate_per_ip=None, message=None, where=where
    )


def rules_of(patterns: list[tuple[str, ...]]) -> Rules:
    return YamlRules([spec(*texts, where=f"f:{line}") for line, texts in enumerate(patterns)], "allow")


def naive_match(text: str, ip: str, host: bytes | None, info: bytes | None) -> bool:
    user, at, place = text.rpartition("@")
    if at and (info is None or info.decode() != user):
        return False
    if place == "*":
        return True
    if "/" in place or place in IPS:
        return ip_address(ip) in ip_network(place)
    name = None if host is None else host.decode().lower()
    place = place.lower()
    return name is not None and (name.endswith(place) if place.startswith(".") else name == place)


@given(SPECS, CLIENT)
def test_the_first_rule_that_matches_decides(
    patterns: list[tuple[str, ...]], client: tuple[str, bytes | None, bytes | None]
) -> None:
    lines = (line for line, texts in enumerate(patterns) if any(naive_match(text, *client) for text in texts))
    first = next(lines, None)
    rule = rules_of(patterns).match(*client)
    assert rule.where == ("default" if first is None else f"f:{first}")
    assert rule.verdict == ("allow" if first is None else "deny")


@given(SPECS, st.sampled_from(IPS))
def test_a_client_is_decided_early_if_and_only_if_names_cannot_change_the_rule(
    patterns: list[tuple[str, ...]], ip: str
) -> None:
    rules = rules_of(patterns)
    possible = {rules.match(ip, host, info) for host in (None, *HOSTS) for info in (None, *INFOS)}
    early = rules.decide_early(ip)
    assert {early} == possible if len(possible) == 1 else early is None


def test_the_case_of_a_name_does_not_count() -> None:
    rules = YamlRules([spec("MAIL.example", ".Example.org")], "allow")
    for host in (b"mail.example", b"Mail.Example", b"a.EXAMPLE.org"):
        assert rules.match("192.0.2.7", host).verdict == "deny"


def test_a_mapped_address_and_a_scope_do_not_count() -> None:
    rules = YamlRules([spec("192.0.2.0/24", "fe80::1")], "allow")
    assert rules.match("::ffff:192.0.2.7").verdict == rules.match("fe80::1%eth0").verdict == "deny"


def test_a_rule_hands_on_everything_it_says() -> None:
    rate = Rate(count=5, seconds=60.0, burst=5)
    full = RuleSpec(
        from_=("*",),
        verdict="deny",
        env=(("A", "é"), ("B", "")),
        max_per_ip=3,
        rate_per_ip=rate,
        message="421 no\r\n",
        where="f:7",
    )
    assert YamlRules([full], "allow").match("192.0.2.7") == Rule(
        verdict="deny",
        env=((b"A", "é".encode()), (b"B", b"")),
        where="f:7",
        max_per_ip=3,
        rate_per_ip=rate,
        message="421 no\r\n",
    )


FINGERPRINT = b"9f" * 32
SHOWN = [
    None,
    TlsFacts(),
    TlsFacts(sni=b"a.B.example"),
    TlsFacts(sni=b"new", names=(b"a.b.example", b"joe@b.example"), fingerprint=FINGERPRINT),
    TlsFacts(names=(b"*.b.example",), fingerprint=b"00" * 32),
]
OF_TLS = [
    *("sni:a.b.example", "sni:.b.example", "sni:new", "san:a.b.example", "san:.b.example", "san:.EXAMPLE"),
    *("san:joe@B.example", f"sha256:{FINGERPRINT.decode().upper()}", "sha256:" + ":".join(["9F"] * 32)),
]


def naive_tls_match(text: str, shown: TlsFacts | None) -> bool:
    trait, _, wanted = text.lower().partition(":")
    if shown is None:
        return False
    if trait == "sha256":
        return shown.fingerprint is not None and shown.fingerprint.decode() == wanted.replace(":", "")
    names = [name.decode().lower() for name in (shown.names if trait == "san" else (shown.sni or b"",))]
    hosts = [name for name in names if "@" not in name]
    if wanted.startswith("."):
        return any(name.endswith(wanted) for name in hosts)
    return wanted in names


@given(
    st.lists(st.lists(st.sampled_from(OF_TLS) | PATTERN, max_size=3).map(tuple), max_size=6),
    CLIENT,
    st.sampled_from(SHOWN),
)
def test_the_first_rule_decides_whether_it_is_about_a_handshake_or_not(
    patterns: list[tuple[str, ...]], client: tuple[str, bytes | None, bytes | None], shown: TlsFacts | None
) -> None:
    matching = (
        line
        for line, texts in enumerate(patterns)
        if any(
            naive_tls_match(text, shown) if text in OF_TLS else naive_match(text, *client) for text in texts
        )
    )
    first = next(matching, None)
    rule = rules_of(patterns).match(*client, NO_TLS if shown is None else shown)
    assert rule.where == ("default" if first is None else f"f:{first}")


@pytest.mark.parametrize("text", OF_TLS)
def test_a_rule_about_a_handshake_is_not_decided_before_it(text: str) -> None:
    rules = rules_of([("192.0.2.7",), (text,), ("2001:db8::1",)])
    assert rules.decide_early("192.0.2.7") is not None
    assert rules.decide_early("192.0.2.200") is rules.decide_early("2001:db8::1") is None


@pytest.mark.parametrize("default", ["allow", "deny"])
def test_the_default_is_for_whom_no_rule_matches(default: Verdict) -> None:
    rules = YamlRules([spec("192.0.2.7")], default)
    assert rules.match("192.0.2.8") == Rule(verdict=default, env=(), where="default")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither an address, a network, a host name nor a .domain"),
        (".", "neither an address"),
        ("..example", "neither an address"),
        ("a..example", "neither an address"),
        ("=a.example", "neither an address"),
        ("a b", "neither an address"),
        ("b\u00fccher.example", "neither an address"),
        ("x" * 64 + ".example", "neither an address"),
        ("abcdefgh." * 29, "neither an address"),
        ("192.0.2.", "not an IP address: '192.0.2.'"),
        ("192.0.2.7.", "not an IP address"),
        ("192.0.2", "not an IP address"),
        ("192.0.2.256", "not an IP address"),
        ("2001:db8:", "not an IP address"),
        ("[::1]", "not an IP address"),
        ("192.0.2.7/24", "192.0.2.7/24 has bits set after its first 24: 192.0.2.0/24 or 192.0.2.7?"),
        ("192.0.2.0/33", "prefix length 33 is over 32"),
        ("@192.0.2.7", "a user name is missing before the @"),
        ("*@192.0.2.7", "a user name is missing before the @"),
        ("u@", "neither an address"),
    ],
)
def test_a_pattern_that_is_wrong_is_named_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        YamlRules([spec("*"), spec("192.0.2.7", text, where="f:7")], "allow")
    (problem,) = caught.value.problems
    assert problem.startswith(f"f:7: from: {text!r}: ")
    assert why in problem


def test_all_mistakes_are_named_at_once() -> None:
    wrong = RuleSpec(
        from_=("a b", "c d"),
        verdict="allow",
        env=(("", "x"), ("A=B", "x"), ("A", "\0"), ("C", "\ud800"), ("D", "=")),
        max_per_ip=None,
        rate_per_ip=None,
        message=None,
        where="f:2",
    )
    with pytest.raises(ConfigError) as caught:
        YamlRules([spec("e f"), wrong], "allow")
    assert [problem.split(": ")[:3] for problem in caught.value.problems] == [
        ["f:1", "from", "'e f'"],
        ["f:2", "env", "''"],
        ["f:2", "env", "'A=B'"],
        ["f:2", "env", "'A'"],
        ["f:2", "env", "'C'"],
        ["f:2", "from", "'a b'"],
        ["f:2", "from", "'c d'"],
    ]


@given(st.text(alphabet="0123456789abz:./@*-_% \u212a\0") | st.text())
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except ValueError:
        return
    assert pattern.where


def test_a_trailing_dot_of_a_name_does_not_count() -> None:
    assert parse_pattern("A.Example.") == parse_pattern("a.example")
    assert parse_pattern(".Example.") == parse_pattern(".example")


ROOT, JOE, DAEMON = UnixClient.of(0, 0, 1), UnixClient.of(1000, 100, 2), UnixClient.of(1, 1, 3)


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*", [ROOT, JOE, DAEMON]),
        ("unix:", [ROOT, JOE, DAEMON]),
        ("uid:0", [ROOT]),
        ("uid:1000", [JOE]),
        ("gid:1", [DAEMON]),
        ("gid:1000", []),
        ("0.0.0.0/0", []),
        ("::/0", []),
        ("u@*", []),
        (".example", []),
        ("unix", None),
        ("unix:/run/x", None),
        ("uid:", None),
        ("uid:01", None),
        ("gid:-1", None),
    ],
)
def test_who_comes_over_a_unix_socket_is_known_by_user_and_group(
    pattern: str, matched: list[UnixClient] | None
) -> None:
    if matched is None:
        with pytest.raises(ConfigError, match="from:"):
            rules_of([(pattern,)])
        return
    rules = rules_of([(pattern,)])
    for client in (ROOT, JOE, DAEMON):
        rule = rules.match(client)
        assert (rule.where == "f:0") == (client in matched), client
        assert rules.decide_early(client) == rule


def test_rules_for_unix_sockets_are_for_nobody_else() -> None:
    rules = rules_of([("unix:", "uid:0", "gid:0")])
    assert rules.match("192.0.2.7").where == rules.match("::1").where == "default"


def test_the_first_rule_decides_of_those_for_unix_sockets_too() -> None:
    rules = rules_of([("gid:100",), ("uid:1000",), ("*",)])
    assert [rules.match(client).where for client in (JOE, UnixClient.of(1000, 7), ROOT)] == [
        "f:0", "f:1", "f:2",
    ]  # fmt: skip


def test_what_a_handshake_shows_over_a_unix_socket_counts_too() -> None:
    rules = rules_of([("sni:a.example",), ("unix:",)])
    assert rules.decide_early(JOE) is None
    assert rules.match(JOE, tls=TlsFacts(b"a.example")).where == "f:0"
    assert rules.match(JOE, tls=TlsFacts(b"b.example")).where == "f:1"
    assert rules_of([("uid:1000",), ("sni:a.example",)]).decide_early(JOE) is not None
