import grp
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from ucspid.config.accounts import MAX_GROUPS
from ucspid.config.endpoints import MAX_NAMESERVERS
from ucspid.config.environment import DEFAULT_PATH, MANAGER_NAMES
from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.ipc import messages as wire
from ucspid.ipc import orders
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Log, Lookup, Plan, Rate
from ucspid.profile import Profile
from ucspid.records import MISSING, fields

EXAMPLE = Path(__file__).parents[1] / "golden" / "config" / "example" / "ucspid.yaml"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root can switch users")


class Loaded(Protocol):
    """Loads a file with one service, more text after it, and keys before it."""

    def __call__(self, text: str = "", *, top: str = "") -> Plan: ...


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    def load_text(text: str = "", *, top: str = "") -> Plan:
        path = tmp_path / "f.yaml"
        path.write_text(f"{top}\nservices:\n  s:\n    listen: 0\n    program: [/bin/sh]\n{text}")
        return load(path)

    return load_text


def problem(loaded: Loaded, text: str = "", *, top: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(text, top=top)
    (line,) = caught.value.problems
    return line.partition("f.yaml:")[2]


def test_every_key_arrives_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("TZ", raising=False)
    plan = load(EXAMPLE)
    assert plan.control == str(EXAMPLE.parent / "run/control")
    assert plan.log == Log(format="json", level="debug")
    assert plan.max_connections == 1000
    smtp = plan.services[0]
    assert smtp.name == "smtp"
    assert smtp.listen == (
        Endpoint("", 2525),
        Endpoint("::1", 2526),
        Endpoint("127.0.0.1", 2528),
        Endpoint("", 2527),
    )
    assert smtp.executable in {"/usr/bin/sh", "/bin/sh"}
    assert smtp.argv == ("sh", "-c", "exit 0", "5")
    assert smtp.env == (
        ("DATABYTES", "1000000"),
        ("LANG", "C.UTF-8"),
        ("PATH", DEFAULT_PATH),
        ("RELAYCLIENT", ""),
    )
    assert smtp.profile.umask == 0o027
    assert smtp.profile.nice == 19
    assert smtp.profile.rlimits == (("as", 200 << 20), ("core", 0), ("cpu", None), ("nofile", 100))
    assert smtp.profile.no_new_privs
    assert smtp.stderr == "null"
    assert (smtp.max_connections, smtp.on_full, smtp.max_per_ip) == (200, "refuse", 20)
    assert (smtp.ipv4_prefix, smtp.ipv6_prefix) == (24, 56)
    assert smtp.rate_per_ip == Rate(count=60, seconds=60, burst=30)
    assert smtp.rate == Rate(count=500, seconds=1, burst=500)
    assert smtp.exempt == ("127.0.0.0/8", "::1")
    assert smtp.refuse_message == "421 too many connections, try again later\r\n"
    assert isinstance(smtp.rules, tuple)
    assert [(spec.verdict, spec.from_[0]) for spec in smtp.rules] == [
        ("allow", "192.0.2.0/24"),
        ("deny", "2001:db8::1"),
    ]
    assert (smtp.default_action, smtp.rule_env, smtp.env_dialect) == ("deny", ("A",), "tcp6")
    assert smtp.lookup == Lookup(
        remote_host=True,
        paranoid=True,
        local_host="mx.example.org",
        local_ptr=False,
        ident=True,
        timeout=2,
    )
    assert (smtp.nodelay, smtp.keepalive, smtp.backlog) == (True, True, 64)
    assert (smtp.drain_timeout, smtp.kill_timeout, smtp.max_lifetime) == (60, 0.5, 3600)


def test_a_plan_survives_json() -> None:
    plan = load(EXAMPLE)
    assert Plan.from_json(plan.to_json()) == plan


def test_what_a_service_is_without_settings(loaded: Loaded) -> None:
    plain = loaded().services[0]
    assert plain.executable == "/bin/sh"
    assert plain.env == (("PATH", DEFAULT_PATH),)
    assert plain.profile.cwd == "/"
    assert plain.profile.umask == 0o022
    assert (plain.profile.root, plain.profile.nice, plain.profile.rlimits) == (None, None, ())
    assert (plain.stderr, plain.on_full, plain.max_connections) == ("log", "queue", 40)
    assert (plain.max_per_ip, plain.rate_per_ip, plain.rate, plain.max_lifetime) == (None, None, None, None)
    assert (plain.drain_timeout, plain.kill_timeout, plain.backlog) == (30, 5, 128)


def test_a_program_may_have_another_name_than_its_file(loaded: Loaded) -> None:
    assert loaded().services[0].argv[0] == "/bin/sh"
    named = loaded("    argv0: in.fingerd\n").services[0]
    assert (named.executable, named.argv[0]) == ("/bin/sh", "in.fingerd")


def test_the_variables_of_a_login_are_those_of_the_user_that_the_program_runs_as(loaded: Loaded) -> None:
    env = "    env: {SHELL: /bin/own}\n    user_env: true\n"
    me = pwd.getpwuid(os.geteuid() or pwd.getpwnam("nobody").pw_uid)
    assert dict(loaded(env + "    user: nobody\n").services[0].env) == {
        "PATH": DEFAULT_PATH,
        "HOME": me.pw_dir,
        "USER": me.pw_name,
        "LOGNAME": me.pw_name,
        "SHELL": "/bin/own",
    }


@as_root
def test_a_number_that_passwd_does_not_have_has_no_login(loaded: Loaded) -> None:
    text = "    user: 999999\n    group: 0\n    user_env: true\n"
    assert problem(loaded, text).endswith("services.s.user_env: user id 999999 is not in passwd(5)")


def test_the_defaults_of_the_plan_are_those_of_the_file(loaded: Loaded) -> None:
    plain = loaded().services[0]
    for holder in (plain, plain.lookup):
        for field in fields(holder):
            if field.default is not MISSING:
                assert getattr(holder, field.name) == field.default, field.name
                assert type(getattr(holder, field.name)) is type(field.default), field.name


def test_a_setting_reaches_the_plan_by_its_name_alone(loaded: Loaded) -> None:
    text = "    keepalive: yes\n    kill_timeout: 2min\n    exempt: [10.0.0.0/8]\n    rate: 5/min\n"
    settings = loaded(text).services[0]
    assert (settings.keepalive, settings.kill_timeout, settings.exempt) == (True, 120.0, ("10.0.0.0/8",))
    assert {type(network) for network in settings.exempt} == {str}
    assert settings.rate == Rate(count=5, seconds=60.0, burst=5)


@pytest.mark.parametrize(
    ("control", "why"),
    [
        ("missing/more/control", "there is no directory FOLDER/missing: create it, or choose another path"),
        ("f.yaml/control", "FOLDER/f.yaml is not a directory"),
        ("dangling/control", "FOLDER/dangling is not a directory"),
        ("f.yaml", "FOLDER/f.yaml exists, but is not a socket"),
        (".", "FOLDER exists, but is not a socket"),
    ],
)
def test_a_control_socket_that_cannot_be_made_is_a_mistake(
    loaded: Loaded, tmp_path: Path, control: str, why: str
) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    assert problem(loaded, top=f"control: {control}") == (
        f"1:10: control: {why}".replace("FOLDER", str(tmp_path))
    )


@pytest.mark.parametrize(
    ("text", "group", "mode"),
    [
        ("control: c", None, 0o600),
        ("control: {path: c}", None, 0o600),
        ("control: {path: c, group: 0}", 0, 0o620),
        ("control: {path: c, group: root, mode: 0660}", 0, 0o660),
        ("control: {path: c, mode: 0606}", None, 0o606),
    ],
)
def test_who_may_use_the_control_socket(
    loaded: Loaded, tmp_path: Path, text: str, group: int | None, mode: int
) -> None:
    plan = loaded(top=text)
    assert (plan.control, plan.control_group, plan.control_mode) == (str(tmp_path / "c"), group, mode)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("control: {group: 0}", "control.path: required, but not given"),
        ("control: {path: c, group: no-such-group}", "control.group: "),
        ("control: {path: c, mode: 660}", "control.mode: expected permissions in octal with a leading zero"),
        ("control: {path: missing/more/c}", "control: there is no directory"),
        ("control: [c]", "control: expected a path"),
    ],
)
def test_mistakes_about_the_control_socket(loaded: Loaded, text: str, why: str) -> None:
    assert why in problem(loaded, top=text)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ('web: {listen: "127.0.0.1:9109"}', "127.0.0.1:9109"),
        ('web: {listen: "[::1]:0"}', "[::1]:0"),
        ("web: {listen: unix:/run/page, user: nobody}", "unix:/run/page"),
    ],
)
def test_where_the_status_page_is(loaded: Loaded, text: str, listen: str) -> None:
    web = loaded(top=text).web
    assert web is not None
    assert web.listen == listen


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("web: {}", "web.listen: required, but not given"),
        ("web: {listen: 9109}", "web.listen: expected address:port such as"),
        ("web: {listen: unix:page}", "web.listen: expected address:port such as"),
        (f"web: {{listen: unix:/{'x' * 107}}}", "web.listen: a socket's path may have at most 107 bytes"),
        ("web: {listen: unix:/p, user: no-such-user}", "web.user: "),
    ],
)
def test_mistakes_about_the_status_page(loaded: Loaded, text: str, why: str) -> None:
    assert why in problem(loaded, top=text)


def test_the_status_page_needs_what_is_optional(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    why = f"web: not installed: aiohttp, prometheus_client; in the checkout, {sys.executable} -m pip install"
    assert why in problem(loaded, top="web: {listen: unix:/p}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
def test_the_web_process_is_never_root(loaded: Loaded) -> None:
    why = "web.user: the web process must not run as root"
    assert why in problem(loaded, top="web: {listen: unix:/p, user: root}")


def test_a_folder_for_the_control_socket_need_not_be_there(loaded: Loaded, tmp_path: Path) -> None:
    assert loaded(top="control: run/control").control == str(tmp_path / "run/control")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "left"))
        assert loaded(top="control: left").control == str(tmp_path / "left")


def test_defaults_hold_unless_the_service_says_otherwise(loaded: Loaded) -> None:
    top = "defaults: {max_per_ip: 5, env: {A: a, B: b}, max_connections: 7, umask: 077}"
    settings = loaded("    env: {C: c}\n    max_per_ip: null\n", top=top).services[0]
    assert settings.max_connections == 7
    assert settings.profile.umask == 0o077
    assert settings.max_per_ip is None
    assert dict(settings.env) == {"C": "c", "PATH": DEFAULT_PATH}


def test_the_service_wins_over_what_is_inherited_and_that_over_the_default_path(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/daemon")
    monkeypatch.setenv("A", "daemon")
    assert dict(loaded("    inherit_env: [PATH]\n").services[0].env)["PATH"] == "/daemon"
    both = loaded("    inherit_env: [PATH, A]\n    env: {PATH: /own}\n").services[0]
    assert dict(both.env) == {"PATH": "/own", "A": "daemon"}


@pytest.mark.parametrize("name", MANAGER_NAMES)
def test_what_systemd_sets_for_the_daemon_is_never_inherited(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With it a program could speak for the daemon."""
    monkeypatch.setenv(name, "the daemon's")
    assert name not in dict(loaded('    inherit_env: ["*"]\n').services[0].env)
    where = "6:19: services.s.inherit_env[0]"
    assert problem(loaded, f"    inherit_env: [{name}]\n").startswith(f"{where}: {name} is between systemd")
    given = loaded(f'    inherit_env: ["*"]\n    env: {{{name}: own}}\n').services[0]
    assert dict(given.env)[name] == "own"


def test_a_program_is_searched_in_the_path_of_its_service(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prog").write_text("")
    (tmp_path / "two" / "prog").chmod(0o755)
    path = tmp_path / "f.yaml"
    user = pwd.getpwuid(os.geteuid()).pw_name
    search = f"{tmp_path}/one:{tmp_path}/two"
    path.write_text(
        f"services: {{s: {{listen: 0, program: [prog, x], user: {user}, env: {{PATH: '{search}'}}}}}}\n"
    )
    (service,) = load(path).services
    assert service.executable == str(tmp_path / "two" / "prog")
    assert service.argv == ("prog", "x")


def test_paths_start_from_the_directory_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "prog").write_text("")
    (tmp_path / "bin" / "prog").chmod(0o755)
    path = tmp_path / "f.yaml"
    user = pwd.getpwuid(os.geteuid()).pw_name
    path.write_text(f"services: {{s: {{listen: 0, program: [./prog], chdir: bin, user: {user}}}}}\n")
    (service,) = load(path).services
    assert service.profile.cwd == str(tmp_path / "bin")
    assert service.executable == "./prog"


def test_a_program_that_cannot_be_executed_is_a_mistake(loaded: Loaded, tmp_path: Path) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    label = f"user {user}" if os.geteuid() == 0 else f"user id {os.geteuid()}"
    text = f"  t: {{listen: 0, program: [{tmp_path}], user: {user}}}\n"
    assert (
        problem(loaded, text) == f"6:27: services.t.program: {tmp_path}: a directory (looked for as {label})"
    )
    text = f"  t: {{listen: 0, program: [sh], user: {user}, env: {{PATH: {tmp_path}:/nowhere}}}}\n"
    assert problem(loaded, text) == f"6:27: services.t.program: sh: not found in PATH (looked for as {label})"


def test_a_directory_that_is_not_there_is_a_mistake_of_its_key(loaded: Loaded) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert problem(
        loaded, "    chdir: missing\n", top=f"user: nobody\ndefaults: {{user: {user}}}"
    ).startswith("7:12: services.s.chdir: cannot be set as user")


def test_a_limit_that_the_system_refuses_is_a_mistake_of_its_key(loaded: Loaded) -> None:
    assert problem(loaded, f"    rlimits: {{nofile: {1 << 59}}}\n").startswith(
        "6:23: services.s.rlimits.nofile: cannot be set as "
    )


def test_a_mistake_in_the_defaults_is_reported_once(loaded: Loaded) -> None:
    text = "  t: {listen: 0, program: [/bin/sh]}\n"
    assert (
        problem(loaded, text, top="defaults: {user: no-such-user}")
        == "1:18: defaults.user: there is no user no-such-user"
    )


def test_a_program_is_not_looked_for_with_settings_that_are_wrong(loaded: Loaded) -> None:
    assert problem(loaded, "    usr: daemon\n    env: {PATH: /nowhere}\n") == (
        "6:5: services.s.usr: unknown key, did you mean user?"
    )


def test_the_reader_prints_the_plan() -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-m", "ucspid.config", EXAMPLE], capture_output=True, check=True
    )
    assert Plan.from_json(ran.stdout).services[1].name == "plain"
    assert ran.stderr == b""


def test_the_reader_prints_the_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("usr: x\n")
    ran = subprocess.run(
        [sys.executable, "-I", "-m", "ucspid.config", path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 100
    assert ran.stdout == ""
    assert ran.stderr == (
        f"{path}:1:1: services: required, but not given\n{path}:1:1: usr: unknown key, did you mean user?\n"
    )


def test_the_reader_wants_one_file() -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-m", "ucspid.config"], capture_output=True, text=True, check=False
    )
    usage = "usage: python -I -m ucspid.config FILE [PROGRESS [MATERIAL]]\n"
    assert (ran.returncode, ran.stderr) == (100, usage)


@as_root
def test_the_loop_and_services_without_a_user_run_as_the_user_of_the_file(loaded: Loaded) -> None:
    nobody = pwd.getpwnam("nobody")
    for top in ("", "user: nobody"):
        plan = loaded("", top=top)
        assert (plan.uid, plan.gid, plan.groups) == (nobody.pw_uid, nobody.pw_gid, (nobody.pw_gid,))
        profile = plan.services[0].profile
        assert (profile.uid, profile.gid, profile.groups) == (nobody.pw_uid, nobody.pw_gid, (nobody.pw_gid,))


@as_root
def test_the_group_of_the_file_is_that_of_services_without_a_user(loaded: Loaded) -> None:
    plan = loaded("", top="user: nobody\ngroup: daemon")
    assert plan.gid == plan.services[0].profile.gid == grp.getgrnam("daemon").gr_gid


@as_root
def test_a_service_is_root_only_if_it_says_so(loaded: Loaded) -> None:
    profile = loaded("    user: root\n").services[0].profile
    assert (profile.uid, profile.gid) == (0, 0)
    assert profile.groups == tuple(sorted(set(os.getgrouplist("root", 0))))


@as_root
def test_the_loop_is_never_root(loaded: Loaded) -> None:
    for user in ("root", "0"):
        assert problem(loaded, "    user: nobody\n", top=f"user: {user}").startswith(
            "1:7: user: the event loop must not run as root"
        )


@as_root
def test_a_number_without_an_entry_needs_a_group(loaded: Loaded) -> None:
    profile = loaded("    user: 987654\n    group: 987655\n").services[0].profile
    assert (profile.uid, profile.gid, profile.groups) == (987654, 987655, (987655,))
    assert (
        problem(loaded, "    user: 987654\n")
        == "6:11: services.s.user: user id 987654 is not in passwd(5): give its group too"
    )


@as_root
def test_groups_are_taken_as_given(loaded: Loaded) -> None:
    profile = loaded("    user: nobody\n    group: daemon\n    groups: [5, mail, 5]\n").services[0].profile
    mail = grp.getgrnam("mail").gr_gid
    assert (profile.gid, profile.groups) == (grp.getgrnam("daemon").gr_gid, tuple(sorted({5, mail})))
    assert loaded("    groups: []\n").services[0].profile.groups == ()


@as_root
def test_under_chroot_program_and_directory_are_those_inside(tmp_path: Path, loaded: Loaded) -> None:
    (tmp_path / "jail" / "dir").mkdir(parents=True)
    (tmp_path / "jail" / "prog").write_text("")
    (tmp_path / "jail" / "prog").chmod(0o755)
    jailed = "program: [/prog], chroot: jail, user: root"
    profile = loaded(f"    nodelay: true\n  t: {{listen: 0, {jailed}, chdir: /dir}}\n").services[0].profile
    assert profile.root is None
    path = tmp_path / "g.yaml"
    path.write_text(f"services: {{t: {{listen: 0, {jailed}, chdir: /dir}}}}\n")
    (jail,) = load(path).services
    assert (jail.profile.root, jail.profile.cwd, jail.executable) == (str(tmp_path / "jail"), "/dir", "/prog")
    assert problem(loaded, f"  t: {{listen: 0, {jailed}, chdir: dir}}\n").endswith(
        "services.t.chdir: must be an absolute path, inside the chroot"
    )


@pytest.mark.parametrize(
    ("key", "most", "text", "top"),
    [
        ("services.s.groups", MAX_GROUPS, "    groups: [ITEMS]\n", ""),
        ("nameservers", MAX_NAMESERVERS, "", "nameservers: [ITEMS]"),
    ],
)
def test_lists_that_are_sent_in_one_packet_have_a_bound(
    loaded: Loaded, key: str, most: int, text: str, top: str
) -> None:
    item = "127.0.0.1" if top else "0"
    items = ", ".join([item] * most)
    assert loaded(text.replace("ITEMS", items), top=top.replace("ITEMS", items)).services
    items += f", {item}"
    assert problem(loaded, text.replace("ITEMS", items), top=top.replace("ITEMS", items)).endswith(
        f" {key}: {most + 1} items, at most {most} are allowed"
    )


@as_root
def test_a_user_in_too_many_groups_is_a_mistake(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda _name, _gid: [*range(MAX_GROUPS + 1)])
    assert problem(loaded, "    user: root\n", top="user: 65533\ngroup: 65533").endswith(
        f"services.s.user: user root is in {MAX_GROUPS + 1} groups, at most {MAX_GROUPS} are allowed: "
        "name those it needs"
    )


def test_the_largest_groups_fit_their_packets() -> None:
    numbers = tuple(range((1 << 32) - 2 - MAX_GROUPS, (1 << 32) - 2))
    order = orders.Begin(
        log_format="console", log_level="warning", uid=numbers[0], gid=numbers[0], groups=numbers,
        nameservers=("[2001:db8:1111:2222:3333:4444:5555:6666]:65535",) * MAX_NAMESERVERS,
        looks_up=True, asks_dns=True, asks_ident=True, owner=0, config="\N{EURO SIGN}" * 4096, began=1.5,
    )  # fmt: skip
    assert len(orders.pack(order)) <= wire.MAX_PACKET // 2


@not_as_root
def test_without_root_nothing_is_switched(loaded: Loaded) -> None:
    plan = loaded("    user: nobody\n    groups: []\n", top="user: root")
    assert (plan.uid, plan.gid, plan.groups) == (None, None, None)
    assert plan.services[0].profile == Profile(
        uid=None,
        gid=None,
        groups=None,
        umask=0o022,
        cwd="/",
        root=None,
        nice=None,
        rlimits=(),
        no_new_privs=False,
    )


@not_as_root
def test_without_root_users_must_exist_all_the_same(loaded: Loaded) -> None:
    assert problem(loaded, "    user: no-such-user\n").endswith(
        "services.s.user: there is no user no-such-user"
    )


@not_as_root
def test_without_root_there_is_no_chroot(loaded: Loaded) -> None:
    assert problem(loaded, "    chroot: /\n").endswith("services.s.chroot: needs a daemon started as root")


@not_as_root
def test_without_root_a_negative_nice_is_refused(loaded: Loaded) -> None:
    assert "services.s.nice: cannot be set as user id" in problem(loaded, "    nice: -5\n")
