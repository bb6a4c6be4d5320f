"""Access rules of tcprules in the configuration file: they decide as the file would."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tiers import examples
from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.importers.collect import import_paths
from ucspid.importers.description import Description, Imported, SourceLine
from ucspid.importers.host import Host
from ucspid.importers.hosts_access import intersection, pattern_of
from ucspid.importers.tcprules_source import import_tcprules
from ucspid.plan import RuleSpec
from ucspid.rules.lookup import table_from_text
from ucspid.rules.networks import YamlRules

IPS = ["1.2.3.4", "1.2.3.5", "1.2.30.4", "1.20.3.4", "10.2.3.4", "2001:db8::7"]
HOSTS = ["a.b.c", "b.c", "c"]
KEYS = [
    *("1.2.3.4", "1.2.3.", "1.2.", "1.", "1.2.3.4-9", "1.2-20.", "1.2.3.0/25", "2001:db8::/32"),
    "2001:db8::7",
    *("=a.b.c", "=.b.c", "=.c", "=c", "u@1.2.3.4", "u@=a.b.c", ""),
]  # fmt: skip
RULE = st.tuples(
    st.sampled_from(KEYS),
    st.sampled_from([":allow", ":deny"]),
    st.sampled_from(["", ',A="b"', ",A=/c/,B=_d_"]),
).map("".join)
TEXT = st.lists(RULE, max_size=12).map("\n".join).map(str.encode)


def rules_of(service: Imported) -> YamlRules:
    specs = [
        RuleSpec(
            from_=tuple(rule.patterns or ["*"]), verdict="allow" if rule.allow else "deny",
            env=tuple(rule.env.items()), max_per_ip=None, rate_per_ip=None, message=None, where=str(number),
        )
        for number, rule in enumerate(service.settings.get("rules", []))
    ]  # fmt: skip
    return YamlRules(specs, service.settings.get("default_action", "allow"))


@settings(max_examples=examples(100), deadline=None)
@given(text=TEXT)
def test_every_client_gets_what_the_file_says(text: bytes) -> None:
    description = Description()
    import_tcprules(text, "rules", Host(), description)
    (service,) = description.services
    ours, theirs = rules_of(service), table_from_text(text, "rules")
    for ip in IPS:
        for host in (None, *map(str.encode, HOSTS)):
            for info in (None, b"u"):
                expected, found = theirs.match(ip, host, info), ours.match(ip, host, info)
                assert found.verdict == expected.verdict
                if found.verdict == "allow":
                    assert dict(found.env) == dict(expected.env)


def test_rules_alone_are_held_by_a_service_that_passes_check(tmp_path: Path) -> None:
    path = tmp_path / "smtp.rules"
    path.write_bytes(
        b'# ours\n127.:allow,RELAYCLIENT=""\n10.1.2.3-6:deny\n# a name\n=.example.org:allow\n:deny\n'
    )
    written, description = import_paths([str(path)], Host())
    assert written is not None
    assert [note.what for note in description.all_notes()] == ["these are rules without a service"]
    assert "      # ours\n      - from: 127.0.0.0/8\n" in written
    assert yaml.load(written, yaml.BaseLoader)["services"]["smtp"]["rules"] == [
        {"from": ["10.1.2.3", "10.1.2.4/31", "10.1.2.6"], "deny": "yes"},
        {"from": "127.0.0.0/8", "allow": "yes", "env": {"RELAYCLIENT": ""}},
        {"from": ".example.org", "allow": "yes"},
        {"deny": "yes"},
    ]
    (tmp_path / "ucspid.yaml").write_text(written)
    (service,) = load(tmp_path / "ucspid.yaml").services
    assert service.lookup.remote_host


def test_a_rule_that_denies_is_not_lost_silently(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_text("=:deny\n@1.2.3.4:allow\nnonsense:deny\n:allow\n")
    written, description = import_paths([str(path)], Host())
    assert written is None
    (service,) = description.services
    assert [note.what for note in service.notes] == [
        "these are rules without a service",
        "a rule for everyone who has a name",
        "a rule for clients whose ident server answered with an error",
    ]
    assert service.reasons == ["a rule that denies is lost"]


@pytest.mark.parametrize(
    ("word", "pattern"),
    [
        ("ALL", "*"),
        ("127.0.", "127.0.0.0/16"),
        ("127.0.0.0/255.0.0.0", "127.0.0.0/8"),
        ("[2001:db8::]/32", "2001:db8::/32"),
        ("[2001:db8::1]", "2001:db8::1"),
        (".Example.org", ".example.org"),
        ("joe@192.0.2.1", "joe@192.0.2.1"),
        ("ALL@192.0.2.1", "192.0.2.1"),
    ],
)
def test_words_of_hosts_access(word: str, pattern: str) -> None:
    assert pattern_of(word) == pattern


@pytest.mark.parametrize(
    "word", ["LOCAL", "PARANOID", "@group", "*.org", "KNOWN@1.2.3.4", "[x]/32", "1.2.3.4/99", "255-1"]
)
def test_words_without_an_equivalent(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        pattern_of(word)


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("*", "10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.0.0/16", "10.0.0.0/8", "10.1.0.0/16"),
        ("10.0.0.0/8", "11.0.0.0/8", None),
        ("10.0.0.0/8", "2001:db8::/32", None),
        (".example.org", "mx.example.org", "mx.example.org"),
        (".example.org", ".org", ".example.org"),
        ("a.example.org", "b.example.org", None),
    ],
)
def test_what_two_patterns_have_in_common(one: str, other: str, common: str | None) -> None:
    assert intersection(one, other) == intersection(other, one) == common


def test_what_libwrap_did_beside_is_noted(tmp_path: Path) -> None:
    (tmp_path / "hosts.allow").write_text(
        "cat: 10. : spawn (echo %a) : severity mail.info\ncat: LOCAL\ncat: ALL: twist /bin/echo go away\n"
    )
    (tmp_path / "hosts.deny").write_text("dog: PARANOID\n")
    (tmp_path / "inetd.conf").write_text(
        "7301 stream tcp nowait root /bin/cat cat\n7302 stream tcp nowait root /bin/cat dog\n"
    )
    paths = [str(tmp_path / name) for name in ("hosts.allow", "hosts.deny", "inetd.conf")]
    _, description = import_paths(paths, Host())
    cat, dog = description.services
    assert [note.what for note in cat.notes] == [
        "spawn (echo %a) was done for each of these clients", "LOCAL has no equivalent"
    ]  # fmt: skip
    assert cat.settings["rules"][-1].message == "go away\n"
    assert not cat.reasons
    assert [note.what for note in dog.notes] == ["PARANOID has no equivalent"]
    assert dog.reasons


def test_names_of_exceptions_are_looked_up(tmp_path: Path) -> None:
    (tmp_path / "hosts.deny").write_text("cat: ALL EXCEPT .example.org, joe@10.0.0.1\n")
    _, description = import_paths([str(tmp_path / "hosts.deny")], Host())
    (service,) = description.services
    assert service.settings["lookup"] == {"remote_host": True, "paranoid": True, "ident": True}


def test_xinetd_applies_its_lists_and_those_of_libwrap(tmp_path: Path) -> None:
    (tmp_path / "hosts.deny").write_text("cat: 10.1.0.0/16\n")
    (tmp_path / "xinetd.conf").write_text(
        "service it\n{\n type = UNLISTED\n socket_type = stream\n protocol = tcp\n wait = no\n user = root\n"
        " port = 7301\n server = /bin/cat\n only_from = 10.0.0.0\n no_access = 10.2.0.0\n}\n"
    )
    paths = [str(tmp_path / name) for name in ("hosts.deny", "xinetd.conf")]
    _, description = import_paths(paths, Host())
    rules = rules_of(description.services[0])
    said = {ip: rules.match(ip).verdict for ip in ("10.3.0.1", "10.1.0.1", "10.2.0.1", "11.0.0.1")}
    assert said == {"10.3.0.1": "allow", "10.1.0.1": "deny", "10.2.0.1": "deny", "11.0.0.1": "deny"}


def test_exceptions_of_exceptions_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "hosts.deny").write_text("ALL: ALL EXCEPT 10.\n" * 2000)
    with pytest.raises(ConfigError, match=r"hosts\.deny:18: more than 16 lines before it except the same"):
        import_paths([str(tmp_path / "hosts.deny")], Host())


def test_tcpd_is_taken_out_of_the_program(tmp_path: Path) -> None:
    for name in ("etc", "usr/sbin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (tmp_path / "usr/sbin/in.x").touch(mode=0o755)
    (tmp_path / "usr/sbin/tcpd").touch(mode=0o755)
    (tmp_path / "etc/inetd.conf").write_text("7301 stream tcp nowait root /usr/sbin/tcpd in.x -a\n")
    (tmp_path / "etc/hosts.deny").write_text("in.x: 10.\n")
    _, description = import_paths(["/etc/inetd.conf", "/etc/hosts.deny"], Host(str(tmp_path)))
    (service,) = description.services
    assert service.settings["program"] == ["/usr/sbin/in.x", "-a"]
    assert "argv0" not in service.settings
    assert service.place == SourceLine(f"{tmp_path}/etc/inetd.conf", 1)
