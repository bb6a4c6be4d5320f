"""Every mistake of a file is in one report: none hides another, and none is made up in its place."""

import os
from collections.abc import Callable, Iterator

import pytest

from reachable import reachable
from ucspid.config.load import load
from ucspid.errors import ConfigError

IS_ROOT = os.geteuid() == 0
SELF = "root" if IS_ROOT else f"user id {os.geteuid()}"
NOBODY = "user nobody" if IS_ROOT else SELF

Mistakes = Callable[[str], list[str]]


@pytest.fixture
def mistakes() -> Iterator[Mistakes]:
    """Return what is wrong with a file: from its line number on, with FOLDER for where it is."""
    with reachable() as folder:
        path = folder / "f.yaml"

        def load_text(text: str) -> list[str]:
            path.write_text(text)
            with pytest.raises(ConfigError) as caught:
                load(path)
            return [
                line.removeprefix(f"{path}:").replace(str(folder), "FOLDER") for line in caught.value.problems
            ]

        yield load_text


def test_a_missing_user_does_not_hide_a_missing_program(mistakes: Mistakes) -> None:
    assert mistakes("services: {s: {listen: 0, user: no-such, group: none, program: [/no/such]}}") == [
        "1:33: services.s.user: there is no user no-such",
        "1:49: services.s.group: there is no group none",
        f"1:64: services.s.program: /no/such: no such file (looked for as {SELF})",
    ]


def test_a_group_is_looked_up_though_no_user_is_named(mistakes: Mistakes) -> None:
    text = "group: no-such\nservices: {s: {listen: 0, program: [/bin/sh], group: none, groups: [nil]}}\n"
    assert mistakes(text) == [
        "1:8: group: there is no group no-such",
        "2:54: services.s.group: there is no group none",
        "2:69: services.s.groups[0]: there is no group nil",
    ]


def test_a_missing_user_of_the_file_hides_neither_programs_nor_rules(mistakes: Mistakes) -> None:
    text = "user: no-such\nservices:\n  s: {listen: 0, program: [no-such], rules: missing}\n"
    assert mistakes(text) == [
        "1:7: user: there is no user no-such",
        f"3:27: services.s.program: no-such: not found in PATH (looked for as {SELF})",
        f"3:45: services.s.rules: FOLDER/missing: no such file (read as {NOBODY})",
    ]


@pytest.mark.parametrize(
    ("setting", "mistake"),
    [
        ("nice: 20", "nice: expected a whole number from -20 to 19, found the number 20"),
        ("rlimits: {nofile: 1}", "rlimits.nofile: 1 is less than a launcher needs"),
        ("env: {'A=': x}", 'env."A=": expected the name of a variable'),
        ("inherit_env: [A=]", "inherit_env[0]: expected the name of a variable"),
        ("umask: 22", "umask: expected an octal mask"),
        ("chdir: /no/folder", f"chdir: cannot be set as {NOBODY}: /no/folder: No such file or directory"),
        ("usr: nobody", "usr: unknown key, did you mean user?"),
        ("rlimits: {nofile: 461168601842738790}", f"rlimits.nofile: cannot be set as {NOBODY}: "),
    ],
)
def test_no_setting_hides_a_missing_program(mistakes: Mistakes, setting: str, mistake: str) -> None:
    first, second = mistakes(f"services: {{s: {{program: [/no/such], {setting}, listen: 0}}}}")
    user = SELF if setting.startswith("usr") else NOBODY
    assert first.endswith(f"services.s.program: /no/such: no such file (looked for as {user})")
    assert f": services.s.{mistake}" in second


@pytest.mark.parametrize(
    "settings",
    ["env: [PATH]", "env: {PATH: []}", "chdir: [x], program: [./no-such]", "program: [[], no-such]"],
)
def test_no_program_is_missed_that_the_file_does_not_name(mistakes: Mistakes, settings: str) -> None:
    program = "" if "program" in settings else ", program: [no-such]"
    (mistake,) = mistakes(f"services: {{s: {{listen: 0, {settings}{program}}}}}")
    assert ": expected " in mistake


def test_mistakes_in_a_list_do_not_shift_those_behind_them(mistakes: Mistakes) -> None:
    text = """\
services:
  s:
    program: [/bin/sh]
    listen: [none, 2525, [], "*:2525"]
    groups: [-1, no-such]
    rules:
      - deny
      - {allow, burst: 5}
      - {from: [{}, no.example], deny, env: {A: x}}
      - {from: 192.0.2.1, allow, rate_per_ip: often, burst: 5}
    lookup: {timeout: long}
"""
    assert [line.partition(" ")[0] + line.partition(" ")[2].partition(":")[0] for line in mistakes(text)] == [
        "4:14:services.s.listen[0]",
        "4:26:services.s.listen[2]",
        "4:30:services.s.listen[3]",
        "5:14:services.s.groups[0]",
        "5:18:services.s.groups[1]",
        "7:9:services.s.rules[0]",
        "8:24:services.s.rules[1].burst",
        "9:17:services.s.rules[2].from[0]",
        "9:21:services.s.rules[2].from[1]",
        "9:40:services.s.rules[2].env",
        "10:47:services.s.rules[3].rate_per_ip",
        "11:23:services.s.lookup.timeout",
    ]


def test_what_is_looked_up_is_not_guessed_where_it_is_wrong(mistakes: Mistakes) -> None:
    start = "services: {s: {listen: 0, program: [/bin/sh], rules: [{from: no.example, deny}]"
    for lookup in ("{remote_host: maybe, paranoid: yes}", "[remote_host]", "{remote_hots: yes}"):
        (mistake,) = mistakes(f"{start}, lookup: {lookup}}}}}")
        assert "services.s.lookup" in mistake
