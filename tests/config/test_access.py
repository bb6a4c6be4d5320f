import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reachable import reachable
from tiers import examples
from ucspid.config.identities import UNCHANGED, UserIds
from ucspid.config.load import load
from ucspid.config.rulefiles import Contents, Trouble, examine, examine_as
from ucspid.errors import ConfigError
from ucspid.plan import Lookup, Plan, Rate, RulesFile, RuleSpec, Service
from ucspid.rules import bounds
from ucspid.rules.lookup import table_from_text
from ucspid.rules.networks import YamlRules
from ucspid.rules.tcprules import compile_text

NOBODY = UserIds(65534, 65534, (65534,))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")

PATTERNS = [
    "*",
    "192.0.2.7",
    "192.0.2.0/24",
    "2001:db8::/32",
    "::1",
    "mx.example.org",
    ".example.org",
    "joe@*",
]
RULES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "from": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
            "env": st.dictionaries(st.text(min_size=1, max_size=3), st.text(max_size=5), max_size=2),
            "max_per_ip": st.integers(1, 5),
            "message": st.text(max_size=5),
        },
    ).map(lambda rule: {**rule, "allow": True}),
    max_size=4,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable() as path:
        yield path


@pytest.fixture
def loaded(folder: Path) -> Callable[..., Plan]:
    def load_text(text: str, *, top: str = "", more: str = "") -> Plan:
        path = folder / "f.yaml"
        path.write_text(f"{top}\nservices:\n  s:\n    listen: 0\n    program: [/bin/sh]\n{text}\n{more}\n")
        return load(path)

    return load_text


@pytest.fixture
def service(loaded: Callable[..., Plan]) -> Callable[..., Service]:
    return lambda *args, **kwargs: loaded(*args, **kwargs).services[0]


def mistakes(act: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        act()
    return caught.value.problems


# Rules in the file


def test_a_service_without_rules_has_none(service: Callable[..., Service]) -> None:
    plain = service("")
    assert (plain.rules, plain.rule_env) == (None, ())
    assert (plain.default_action, plain.env_dialect) == ("allow", "tcp")
    assert plain.lookup == Lookup(
        remote_host=False, paranoid=False, local_host=None, local_ptr=False, ident=False, timeout=5.0
    )


def test_each_rule_arrives_in_the_plan_with_its_place(service: Callable[..., Service], folder: Path) -> None:
    smtp = service(
        "    lookup: {remote_host: yes, ident: yes}\n"
        "    rules:\n"
        "      - from: [192.0.2.0/24, .example.org, joe@2001:db8::1]\n"
        "        allow:\n"
        '        env: {RELAYCLIENT: "", DATABYTES: 1000}\n'
        "        max_per_ip: 3\n"
        "        rate_per_ip: 60/min\n"
        "        burst: 5\n"
        '      - {from: 198.51.100.7, deny, message: "554 no\\r\\n"}\n'
        "      - allow: yes\n"
    )
    nothing: dict[str, Any] = {"env": (), "max_per_ip": None, "rate_per_ip": None, "message": None}
    assert smtp.rules == (
        RuleSpec(
            from_=("192.0.2.0/24", ".example.org", "joe@2001:db8::1"),
            verdict="allow",
            env=(("RELAYCLIENT", ""), ("DATABYTES", "1000")),
            max_per_ip=3,
            rate_per_ip=Rate(count=60, seconds=60, burst=5),
            message=None,
            where=f"{folder}/f.yaml:8",
        ),
        RuleSpec(
            **{**nothing, "message": "554 no\r\n"},
            from_=("198.51.100.7",),
            verdict="deny",
            where=f"{folder}/f.yaml:14",
        ),
        RuleSpec(**nothing, from_=("*",), verdict="allow", where=f"{folder}/f.yaml:15"),
    )
    assert smtp.rule_env == ("DATABYTES", "RELAYCLIENT")


def test_a_place_names_the_file_as_it_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "f.yaml").write_text("services: {s: {listen: 0, program: [/bin/sh], rules: [{deny}]}}")
    monkeypatch.chdir(folder)
    (smtp,) = load("f.yaml").services
    assert isinstance(smtp.rules, tuple)
    assert smtp.rules[0].where == "f.yaml:1"


@pytest.mark.parametrize("rules", ["", "    rules: []\n", "    rules: null\n"])
def test_a_service_that_denies_by_default_has_rules_even_without_any(
    service: Callable[..., Service], rules: str
) -> None:
    assert service(f"{rules}    default_action: deny\n").rules == ()
    assert service(rules).rules is None


def test_defaults_hold_for_all_services_and_null_takes_them_back(loaded: Callable[..., Plan]) -> None:
    plan = loaded(
        "",
        top="defaults: {rules: [{deny}], default_action: deny, lookup: {ident: yes}, env_dialect: tcp6}",
        more="  t: {listen: 0, program: [sh], rules: null, default_action: allow, lookup: {},"
        " env_dialect: systemd}",
    )
    first, second = plan.services
    assert isinstance(first.rules, tuple)
    assert [spec.verdict for spec in first.rules] == ["deny"]
    assert (first.default_action, first.lookup.ident, first.env_dialect) == ("deny", True, "tcp6")
    assert (second.rules, second.default_action) == (None, "allow")
    assert (second.lookup.ident, second.env_dialect) == (False, "systemd")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local_host: yes", {"local_ptr": True}),
        ("local_host: no", {}),
        ("local_host: mx.example.org", {"local_host": "mx.example.org"}),
        ("local_host: 0", {"local_host": "0"}),
        ("remote_host: yes, paranoid: yes", {"remote_host": True, "paranoid": True}),
        ("ident: yes, timeout: 500ms", {"ident": True, "timeout": 0.5}),
        ("timeout: 60", {"timeout": 60.0}),
    ],
)
def test_lookups_are_those_asked_for(
    service: Callable[..., Service], text: str, expected: dict[str, Any]
) -> None:
    off = {
        "remote_host": False,
        "paranoid": False,
        "local_host": None,
        "local_ptr": False,
        "ident": False,
        "timeout": 5.0,
    }
    assert service(f"    lookup: {{{text}}}\n").lookup == Lookup(**{**off, **expected})


def test_the_variables_of_one_rule_are_bounded(loaded: Callable[..., Plan]) -> None:
    half = "x" * (32 << 10)
    plan = loaded(f"    rules: [{{allow, env: {{A: {half}}}}}, {{allow, env: {{B: {half}}}}}]\n")
    assert plan.services[0].rule_env == ("A", "B")
    (problem,) = mistakes(lambda: loaded(f"    rules: [{{allow, env: {{A: {half}, B: {half}}}}}]\n"))
    assert problem.endswith(
        "f.yaml:6:21: services.s.rules[0].env: the variables of the rule take 65542 bytes, "
        "at most 65536 are allowed"
    )


def test_the_names_that_rules_set_must_fit_the_message_to_a_launcher(loaded: Callable[..., Plan]) -> None:
    rules = "".join(f"      - {{allow, env: {{{'N' * 900}{number}: x}}}}\n" for number in range(110))
    (problem,) = mistakes(lambda: loaded(f"    rules:\n{rules}"))
    assert "services.s.program: arguments and environment, with the names of the variables" in problem


def test_different_rates_are_bounded(loaded: Callable[..., Plan]) -> None:
    def rules(count: int) -> str:
        return "    rules:\n" + "".join(
            f"      - {{allow, rate_per_ip: {1 + number % count}/s}}\n" for number in range(40)
        )

    accepted = loaded(rules(16)).services[0].rules
    assert isinstance(accepted, tuple)
    assert len({spec.rate_per_ip for spec in accepted}) == 16
    (problem,) = mistakes(lambda: loaded(rules(17)))
    assert problem.endswith("f.yaml:7:7: services.s.rules: more than 16 different rates")


def test_lists_that_multiply_over_services_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucspid.config.access.MAX_BYTES", 1000)
    path = folder / "f.yaml"
    names = "abcdefghij"
    text = "defaults: {rules: [{deny}]}\nservices:\n"
    path.write_text(text + "".join(f"  {name}: {{listen: 0, program: [/bin/sh]}}\n" for name in names[:3]))
    assert len(load(path).services) == 3
    path.write_text(text + "".join(f"  {name}: {{listen: 0, program: [/bin/sh]}}\n" for name in names))
    (problem,) = mistakes(lambda: load(path))
    assert "f.yaml:1:19: defaults.rules: the rules of all services take over 1000 bytes" in problem


@settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(RULES)
def test_rules_that_are_accepted_can_be_used(folder: Path, rules: list[dict[str, Any]]) -> None:
    path = folder / "f.yaml"
    lookup = {"remote_host": True, "ident": True}
    value = {"services": {"s": {"listen": 0, "program": ["/bin/sh"], "rules": rules, "lookup": lookup}}}
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    try:
        plan = load(path)
    except ConfigError:
        return
    (smtp,) = plan.services
    assert isinstance(smtp.rules, tuple | None)
    assert YamlRules(smtp.rules or (), "allow").match("192.0.2.7", b"mx.example.org", b"joe").where
    assert Plan.from_json(plan.to_json()) == plan


def of_the_page(language: str) -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_page_are_right(folder: Path, loaded: Callable[..., Plan]) -> None:
    first, second, _files, lookup = of_the_page("yaml")
    path = folder / "example.yaml"
    path.write_text(re.sub(r"\[/var/qmail.*\]", "[/bin/sh]", first + second))
    smtp, qmtp = load(path).services
    assert isinstance(smtp.rules, tuple)
    assert (len(smtp.rules), smtp.rule_env) == (4, ("DATABYTES", "RELAYCLIENT"))
    assert qmtp.default_action == "deny"
    assert loaded(lookup).services[0].lookup.local_host == "mx.example.org"


def test_the_example_in_the_format_of_tcprules_is_right() -> None:
    text = of_the_page("text")[0].encode()
    table = table_from_text(text, "rules")
    assert len(table) == 19
    assert table.match("2001:db8:25::7").env == table.match("192.0.2.7").env == ((b"RELAYCLIENT", b""),)
    assert table.match("198.51.100.19").verdict == table.match("203.0.113.99").verdict == "deny"


# Rules in a file of their own


def test_a_file_is_what_its_name_says_and_relative_to_the_configuration(
    service: Callable[..., Service], folder: Path
) -> None:
    (folder / "smtp.rules").write_text('192.0.2.:allow,RELAYCLIENT="",B="x"\n:deny,A="x"\n')
    content = compile_text((folder / "smtp.rules").read_bytes(), "f")
    (folder / "smtp.cdb").write_bytes(content)
    for name, kind in (("smtp.rules", "text"), ("smtp.cdb", "cdb"), (f"{folder}/smtp.cdb", "cdb")):
        smtp = service(f"    rules: {name}\n    default_action: deny\n")
        assert smtp.rules == RulesFile(path=str(folder / name), kind=kind)  # type: ignore[arg-type]
        assert (smtp.rule_env, smtp.default_action) == (("A", "B", "RELAYCLIENT"), "deny")


def test_names_of_variables_may_be_any_bytes(service: Callable[..., Service], folder: Path) -> None:
    (folder / "r").write_bytes(b':allow,\xff\xfe="x"\n')
    assert service("    rules: r\n").rule_env == (os.fsdecode(b"\xff\xfe"),)


def test_a_file_may_have_rules_for_names_that_are_not_looked_up(
    service: Callable[..., Service], folder: Path
) -> None:
    (folder / "r").write_bytes(b"=.example.org:allow\njoe@192.0.2.7:deny\n")
    assert service("    rules: r\n").rules == RulesFile(path=str(folder / "r"), kind="text")


def test_all_that_is_wrong_is_found_at_once_each_in_its_own_file(
    loaded: Callable[..., Plan], folder: Path
) -> None:
    (folder / "r").write_text(f'nonsense:\n:allow\n:allow,A\n:allow,A="{"x" * (64 << 10)}"\n')
    (folder / "big").write_text(f':allow\n:allow,A="{"x" * (64 << 10)}"\n')
    (folder / "b.cdb").write_bytes(bytes(100))
    more = "".join(
        f"  {name}: {{listen: 0, program: [/bin/sh], rules: {file}}}\n"
        for name, file in (("t", "r"), ("b", "b.cdb"), ("none", "none"), ("big", "big"), ("d", "."))
    )
    problems = mistakes(lambda: loaded("    rules: r\n    keepalve: yes\n", more=more))
    label = "user nobody" if os.geteuid() == 0 else f"user id {os.geteuid()}"
    assert [problem.removeprefix(f"{folder}/") for problem in problems] == [
        "f.yaml:7:5: services.s.keepalve: unknown key, did you mean keepalive?",
        f"f.yaml:11:48: services.none.rules: {folder}/none: no such file (read as {label})",
        "r:1: no :allow or :deny: 'nonsense:'",
        "r:3: what follows the verdict is not ,NAME=\"VALUE\": ':allow,A'",
        "b.cdb: byte 100: the file ends inside the header of 2048 bytes",
        "big:2: the variables of the rule take 65539 bytes, at most 65536 are allowed",
        f"{folder}: not a regular file",
    ]


def test_what_a_wrong_file_says_is_safe_to_show(loaded: Callable[..., Plan], folder: Path) -> None:
    (folder / "r").write_bytes(b"\x1b[2J\xff:nonsense" + b"x" * 1000 + b"\n")
    (problem,) = mistakes(lambda: loaded("    rules: r\n"))
    assert problem.isprintable()
    assert len(problem) < 500


def test_a_file_that_many_services_name_is_read_once(folder: Path) -> None:
    (folder / "r").write_text(":nonsense\n")
    path = folder / "f.yaml"
    services = "".join(f"  s{number}: {{listen: 0, program: [/bin/sh]}}\n" for number in range(1000))
    path.write_text(f"defaults: {{rules: r}}\nservices:\n{services}")
    assert len(mistakes(lambda: load(path))) == 1


def test_a_fifo_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "r")
    with pytest.raises(ConfigError, match="not a regular file"):
        examine(RulesFile(path=str(folder / "r"), kind="text"))


def test_the_size_of_a_file_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "r").write_text("#" * 100)
    file = RulesFile(path=str(folder / "r"), kind="text")
    monkeypatch.setattr(bounds, "MAX_FILE_BYTES", 100)
    assert examine(file) == Contents(0, ())
    monkeypatch.setattr(bounds, "MAX_FILE_BYTES", 99)
    with pytest.raises(ConfigError, match="larger than 99 bytes"):
        examine(file)


@pytest.fixture
def closed(folder: Path) -> Iterator[RulesFile]:
    path = folder / "closed"
    path.write_text(":allow\n")
    path.chmod(0)
    yield RulesFile(path=str(path), kind="text")
    path.chmod(0o600)


@as_root
def test_files_are_read_with_the_rights_of_the_event_loop(
    closed: RulesFile, loaded: Callable[..., Plan], folder: Path
) -> None:
    assert examine_as(UNCHANGED, [closed]) == [Contents(1, ())]
    assert examine_as(NOBODY, [closed]) == [Trouble("permission denied", ())]
    os.chown(closed.path, 0, 12345)
    Path(closed.path).chmod(0o640)
    assert examine_as(UserIds(65534, 65534, (12345,)), [closed]) == [Contents(1, ())]
    (problem,) = mistakes(lambda: loaded("    rules: closed\n"))
    assert problem == (
        f"{folder}/f.yaml:6:12: services.s.rules: {folder}/closed: permission denied (read as user nobody)"
    )


@as_root
def test_files_are_not_read_as_root_where_the_user_is_wrong(
    loaded: Callable[..., Plan], folder: Path, closed: RulesFile
) -> None:
    (folder / "wrong").write_text(":x\n")
    services = "".join(
        f"  t{number}: {{listen: 0, program: [sh], rules: {file}}}\n"
        for number, file in enumerate([closed.path, "missing", "wrong"])
    )
    first, second, third = mistakes(lambda: loaded("", top="user: no-such-user", more=services))
    assert first.endswith("f.yaml:1:7: user: there is no user no-such-user")
    label = "user nobody" if os.geteuid() == 0 else f"user id {os.geteuid()}"
    assert second.endswith(f"{folder}/missing: no such file (read as {label})")
    assert third.startswith(f"{folder}/wrong:1: ")


@not_as_root
def test_a_file_that_may_not_be_read_is_a_mistake(closed: RulesFile) -> None:
    assert examine_as(UNCHANGED, [closed]) == [Trouble("permission denied", ())]


@not_as_root
def test_a_user_that_cannot_be_taken_is_said(closed: RulesFile) -> None:
    assert examine_as(UserIds(0, 0, ()), [closed]) == [
        Trouble("cannot become that user: Operation not permitted", ())
    ]
