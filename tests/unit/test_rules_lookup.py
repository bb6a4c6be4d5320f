import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.errors import ConfigError
from ucspid.net.unix import UnixClient
from ucspid.rules.cdb import CdbError, make
from ucspid.rules.lookup import RuleTable, decode, table_from_cdb, table_from_text
from ucspid.rules.rule import Rule, Rules
from ucspid.rules.tcprules import compile_text

IPS = ["1.2.3.4", "1.2.9.9", "2001:db8::1", "2001:db8:9::1"]
HOSTS = [b"", b"a.b.c", b"b.c", b".b.c", b".c", b"new.example"]
INFOS = [b"", b"u", b"v", b"new"]
KEYS = [
    *IPS,
    *("", "=", "1.", "1.2.", "1.2.3.", "1.2.3.0/25", "0.0.0.0/0", "2001:", "2001:db8::/33", "::/0"),
    *("=" + host.decode() for host in HOSTS[:5]),
    *(f"{info.decode()}@{ip}" for info in INFOS[:3] for ip in IPS),
    *(f"{info.decode()}@={host.decode()}" for info in INFOS[:3] for host in HOSTS[:5]),
]
TEXT = st.lists(st.sampled_from(KEYS), max_size=8, unique=True).map(
    lambda keys: "".join(f'{key}:allow,A="{key}"\n' for key in keys).encode()
)

EVERY_KIND = b"""\
u@192.0.2.7:allow
u@=mail.a.example:allow
192.0.2.7:allow
=mail.a.example:allow
192.0.2.:allow
192.0.:allow
192.:allow
=.a.example:allow
=.example:allow
=:allow
:allow
"""
STEPS = EVERY_KIND.split(b":allow\n")[:-1]


def table(*lines: str) -> RuleTable:
    return table_from_text("\n".join(lines).encode(), "rules")


def key_of(rules: Rules, ip: str, host: bytes | None = None, info: bytes | None = None) -> bytes | None:
    return rules.match(ip, host, info).key


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_of_all_rules_for_a_client_the_first_in_the_order_of_looking_up_decides(step: int) -> None:
    lines = EVERY_KIND.splitlines(keepends=True)[step:]
    for text in (b"".join(lines), b"".join(reversed(lines))):
        for rules in (table_from_text(text, "rules"), table_from_cdb(compile_text(text, "rules"), "cdb")):
            assert key_of(rules, "192.0.2.7", b"mail.a.example", b"u") == STEPS[step]


@pytest.mark.parametrize(
    ("rule", "ip", "host", "info", "matches"),
    [
        ("u@192.0.2.7", "192.0.2.7", None, b"u", True),
        ("u@192.0.2.7", "192.0.2.7", None, b"U", False),
        ("u@192.0.2.7", "192.0.2.7", None, None, False),
        ("@192.0.2.7", "192.0.2.7", None, b"", True),
        ("@192.0.2.7", "192.0.2.7", None, None, False),
        ("u@=a.example", "192.0.2.7", b"a.example", b"u", True),
        ("u@=a.example", "192.0.2.7", b"a.example", None, False),
        ("u@=a.example", "192.0.2.7", None, b"u", False),
        ("@=a.example", "192.0.2.7", b"a.example", b"", True),
        ("u@=.example", "192.0.2.7", b"a.example", b"u", False),
        ("192.0.2.7", "192.0.2.7", None, None, True),
        ("192.0.2.7", "192.0.2.70", None, None, False),
        ("=a.example", "192.0.2.7", b"a.example", None, True),
        ("=a.example", "192.0.2.7", b"A.example", None, False),
        ("=a.example", "192.0.2.7", None, None, False),
        ("192.0.2.", "192.0.2.7", None, None, True),
        ("192.0.2.", "192.0.20.7", None, None, False),
        ("192.0.2", "192.0.2.7", None, None, False),
        ("192.00.2.", "192.0.2.7", None, None, False),
        ("192.0.2.7.", "192.0.2.7", None, None, False),
        ("u@192.0.2.", "192.0.2.7", None, b"u", False),
        ("=.example", "192.0.2.7", b"a.example", None, True),
        ("=.example", "192.0.2.7", b"example", None, False),
        ("=.example", "192.0.2.7", b"a.xexample", None, False),
        ("=", "192.0.2.7", b"any", None, True),
        ("=", "192.0.2.7", None, None, False),
        ("", "192.0.2.7", None, None, True),
        ("", "2001:db8::1", None, None, True),
        ("2001:db8::1", "2001:db8::1", None, None, True),
        ("2001:DB8:0:0::1", "2001:db8::1", None, None, True),
        ("2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1", None, None, True),
        ("u@2001:DB8:0::1", "2001:db8::1", None, b"u", True),
        ("fe80::1", "fe80::1%eth0", None, None, True),
        ("2001:db8:", "2001:db8:9::1", None, None, True),
        ("2001:db8:", "2001:db80::1", None, None, False),
        ("192.0.2.0/25", "192.0.2.127", None, None, True),
        ("192.0.2.0/25", "192.0.2.128", None, None, False),
        ("192.0.2.7/32", "192.0.2.7", None, None, True),
        ("0.0.0.0/0", "192.0.2.7", None, None, True),
        ("0.0.0.0/0", "2001:db8::1", None, None, False),
        ("::/0", "2001:db8::1", None, None, True),
        ("::/0", "192.0.2.7", None, None, False),
        ("192.0.2.7", "::ffff:192.0.2.7", None, None, True),
        ("::ffff:192.0.2.7", "192.0.2.7", None, None, True),
        ("192.0.", "::ffff:192.0.2.7", None, None, True),
        ("::ffff:192.0.2.0/120", "192.0.2.7", None, None, True),
    ],
)
def test_a_rule_matches_or_not(
    rule: str, ip: str, host: bytes | None, info: bytes | None, *, matches: bool
) -> None:
    text = f"{rule}:deny".encode()
    for rules in (table_from_text(text, "rules"), table_from_cdb(compile_text(text, "rules"), "cdb")):
        assert rules.match(ip, host, info).verdict == ("deny" if matches else "allow")


def test_the_longest_prefix_decides_in_whatever_form_it_is_written() -> None:
    rules = table("192.0.2.0/25:allow", "192.0.2.:allow", "192.0.2.64/26:allow", "192.0.0.0/16:allow")
    keys = [key_of(rules, ip) for ip in ("192.0.2.64", "192.0.2.1", "192.0.2.200", "192.0.3.1", "10.0.0.1")]
    assert keys == [b"192.0.2.64/26", b"192.0.2.0/25", b"192.0.2.", b"192.0.0.0/16", None]


def test_an_address_written_as_a_network_comes_before_the_name() -> None:
    rules = table("=a.example:deny", "192.0.2.7/32:allow")
    assert key_of(rules, "192.0.2.7", b"a.example") == b"192.0.2.7/32"


@pytest.mark.parametrize("twice", ["192.0.2.7", "=a", "192.0.2.", "192.0.2.0/25", "2001:db8:", ""])
def test_of_two_rules_for_one_key_the_first_holds(twice: str) -> None:
    lines = [f"{twice}:deny", f"{twice}:allow"]
    ip = "2001:db8::1" if ":" in twice else "192.0.2.7"
    for text, verdict in (("\n".join(lines), "deny"), ("\n".join(reversed(lines)), "allow")):
        assert table_from_text(text.encode(), "f").match(ip, b"a").verdict == verdict
        assert table_from_cdb(compile_text(text.encode(), "f"), "f").match(ip, b"a").verdict == verdict


def test_a_rule_says_what_it_does_and_where_it_stands() -> None:
    text = b'# mail\n192.0.2.:deny,A="1",B="",A="2"\n'
    env = ((b"A", b"1"), (b"B", b""), (b"A", b"2"))
    written = table_from_text(text, "rules").match("192.0.2.7")
    compiled = table_from_cdb(compile_text(text, "rules"), "rules.cdb").match("192.0.2.7")
    assert written == Rule(verdict="deny", env=env, where="rules:2", key=b"192.0.2.")
    assert compiled == Rule(verdict="deny", env=env, where="rules.cdb", key=b"192.0.2.")


def test_without_a_rule_the_client_is_allowed_and_nothing_set() -> None:
    assert table().match("192.0.2.7", b"h", b"u") == Rule(verdict="allow", env=(), where="default")
    assert table().decide_early("192.0.2.7") == Rule(verdict="allow", env=(), where="default")


def test_a_name_of_as_many_labels_as_possible_is_looked_up() -> None:
    host = b".".join([b"x"] * 126 + [b"y"])
    assert len(host) == 253
    assert key_of(table("=.y:allow", "=:deny"), "192.0.2.7", host) == b"=.y"


@pytest.mark.parametrize("ip", ["", "1.2.3", "a.example", "::g"])
def test_what_is_no_address_has_no_rule(ip: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        table("1.2.3.0/24:allow").match(ip)


@pytest.mark.parametrize("word", ["_A", "_b", "_" + "0" * 33, "^a", "^``", "^" + "0" * 129])
def test_a_key_that_only_begins_as_a_stored_network_matches_nobody(word: str) -> None:
    rules = table(f"{word}:deny")
    assert all(rules.match(ip).verdict == "allow" for ip in ("192.0.2.7", "2001:db8::1", "0.0.0.0", "::"))


def test_keys_that_ucspi_tcp6_and_the_ipv6_patch_store_are_read() -> None:
    keys = [b"_ab000000", b"^00`a00", b"2001:0DB8:0000:0000:0000:0000:0000:0001", b"2001:db8:9:"]
    rules = table_from_cdb(make([(key, b"D\0") for key in keys], "cdb"), "cdb")
    found = [
        key_of(rules, ip) for ip in ("192.9.9.9", "3000::1", "2001:db8::1", "2001:db8:9::1", "193.0.0.1")
    ]
    assert found == [*keys, None]


def test_a_stored_network_of_mapped_addresses_is_one_of_ipv4() -> None:
    ones = iter(range(0x60, 0x100))
    digits = f"{0xFFFFC000:0112b}"
    key = b"^" + bytes(0x30 if digit == "0" else next(ones) for digit in digits)
    rules = table_from_cdb(make([(key, b"D\0")], "cdb"), "cdb")
    found = [rules.match(ip).verdict for ip in ("192.0.2.7", "::ffff:192.0.3.1", "192.1.0.1", "2001:db8::1")]
    assert found == ["deny", "deny", "allow", "allow"]


@given(TEXT, st.sampled_from(IPS))
def test_a_client_is_decided_early_if_and_only_if_names_cannot_change_the_rule(text: bytes, ip: str) -> None:
    rules = table_from_text(text, "rules")
    possible = {rules.match(ip, host, info) for host in [None, *HOSTS] for info in [None, *INFOS]}
    early = rules.decide_early(ip)
    assert {early} == possible if len(possible) == 1 else early is None


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (["192.0.2.7:deny", "=:allow", "u@192.0.2.8:allow"], "rules:1"),
        (["192.0.2.7:deny", "u@192.0.2.7:allow"], None),
        (["192.0.2.7:deny", "u@=a:allow"], None),
        (["192.0.2.:deny", ":allow"], "rules:1"),
        (["192.0.2.:deny", "=a:allow"], None),
        (["192.0.2.:deny", "=:allow"], None),
        (["u@192.0.2.8:allow"], "default"),
    ],
)
def test_the_rule_is_certain_early_unless_one_for_a_name_or_user_comes_before_it(
    lines: list[str], where: str | None
) -> None:
    early = table(*lines).decide_early("192.0.2.7")
    assert (early and early.where) == where


def test_a_key_that_can_be_read_as_two_kinds_is_both() -> None:
    rules = table("=a@192.0.2.7:deny")
    assert key_of(rules, "192.0.2.7", None, b"=a") == key_of(rules, "192.0.2.8", b"a@192.0.2.7") is not None
    assert rules.decide_early("192.0.2.7") is rules.decide_early("192.0.2.8") is None


@given(TEXT, st.sampled_from(IPS), st.none() | st.sampled_from(HOSTS), st.none() | st.sampled_from(INFOS))
def test_a_text_and_its_compiled_file_give_the_same_rules(
    text: bytes, ip: str, host: bytes | None, info: bytes | None
) -> None:
    written = table_from_text(text, "rules")
    compiled = table_from_cdb(compile_text(text, "rules"), "cdb")
    assert written.match(ip, host, info).env == compiled.match(ip, host, info).env
    assert (written.decide_early(ip) is None) == (compiled.decide_early(ip) is None)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ("allow", ())),
        (b"D\0", ("deny", ())),
        (b"+A=\0", ("allow", ((b"A", b""),))),
        (b"+A=b=c\0+D=\0", ("allow", ((b"A", b"b=c"), (b"D", b"")))),
        (b"D\0+A=\xff\0", ("deny", ((b"A", b"\xff"),))),
        (b"+A=b\0D\0", ("deny", ((b"A", b"b"),))),
    ],
)
def test_data_of_a_rule(data: bytes, expected: tuple[str, tuple[tuple[bytes, bytes], ...]]) -> None:
    assert decode(data) == expected


@pytest.mark.parametrize("data", [b"D", b"\0", b"X\0", b"DD\0", b"+A\0", b"+=b\0", b"+A=b", b"+A=b\0+"])
def test_data_that_is_garbage_is_an_error_with_its_place(data: bytes) -> None:
    with pytest.raises(CdbError) as caught:
        table_from_cdb(make([(b"", b""), (b"key", data)], "cdb"), "cdb")
    assert (caught.value.path, caught.value.offset) == ("cdb", 2056)
    assert "the data of a rule" in caught.value.why


def test_a_compiled_key_that_is_no_network_is_an_error_with_its_place() -> None:
    with pytest.raises(CdbError, match="cdb: byte 2048: prefix length 33 is over 32"):
        table_from_cdb(make([(b"1.2.3.0/33", b"")], "cdb"), "cdb")


@given(
    st.lists(
        st.tuples(st.binary(max_size=6), st.binary(max_size=6) | st.sampled_from([b"", b"D\0", b"+A=b\0"]))
    ),
    st.binary(max_size=6),
)
def test_any_compiled_records_are_a_table_or_a_clear_error(
    records: list[tuple[bytes, bytes]], name: bytes
) -> None:
    with contextlib.suppress(CdbError):
        table_from_cdb(make(records, "cdb"), "cdb").match("192.0.2.7", name, name)


@given(st.binary(max_size=60), st.binary(max_size=6))
def test_any_text_is_a_table_or_a_clear_error(text: bytes, name: bytes) -> None:
    with contextlib.suppress(ConfigError):
        table_from_text(text, "rules").match("192.0.2.7", name, name)


def test_over_a_unix_socket_only_the_rule_for_everyone_matches() -> None:
    client = UnixClient.of(0, 0)
    rules = table("0.0.0.0/0:deny", "::/0:deny", "=:deny", "=.example:deny")
    assert rules.match(client).where == "default"
    rules = table("0.0.0.0/0:deny", "u@=mail.a.example:deny", ':allow,A="1"')
    assert rules.match(client).env == ((b"A", b"1"),)
    assert rules.decide_early(client) == rules.match(client)
