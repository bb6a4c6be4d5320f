"""systemd's socket units: what each key becomes, and what has no equivalent."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tiers import examples
from ucspid.errors import ConfigError
from ucspid.importers.collect import import_paths
from ucspid.importers.host import Host
from ucspid.importers.unit_files import seconds, split_words

UNITS = "etc/systemd/system"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Another host's root directory, with a user joe and the program cat."""
    for folder in (UNITS, "bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\njoe:x:1000:1000::/home/joe:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nmail:x:8:\n")
    (tmp_path / "etc/variables").write_text("# comment\nFROM_FILE='a b'\n")
    (tmp_path / "bin/cat").touch(mode=0o755)
    return tmp_path


def imported(root: Path, sock: str = "", service: str = "") -> tuple[dict[str, Any] | None, list[str]]:
    """Return the settings of a service with more keys in its units, None if it would not run, and notes."""
    (root / UNITS / "echo.socket").write_text(f"[Socket]\nListenStream=7301\nAccept=yes\n{sock}\n")
    (root / UNITS / "echo@.service").write_text(
        f"[Unit]\nDescription=x\n[Service]\nExecStart=-/bin/cat\nStandardInput=socket\nUser=joe\n{service}\n"
    )
    written, description = import_paths([f"/{UNITS}/echo.socket"], Host(str(root)))
    notes = [note.what for note in description.all_notes()]
    if written is None:
        return None, notes
    (found,) = yaml.load(written, yaml.BaseLoader)["services"].values()
    return found, notes


@pytest.mark.parametrize(
    ("sock", "settings_"),
    [
        ("", {"listen": "7301", "program": ["/bin/cat"], "user": "joe", "user_env": "yes", "stderr": "client",
            "env_dialect": "systemd", "max_connections": "64", "on_full": "refuse"}),
        ("ListenStream=\nListenStream=192.0.2.1:25\nListenStream=[::1]:25",
            {"listen": ["192.0.2.1:25", "[::1]:25"]}),
        ("BindIPv6Only=ipv6-only", {"listen": "[::]:7301"}),
        ("ListenStream=\nListenStream=/run/x\nSocketMode=0666", {"listen": {
            "address": "unix:/run/x", "mode": "0666"}}),
        ("ListenStream=%t/x\nListenStream=@x\nSocketUser=joe\nSocketGroup=mail\nSocketMode=660", {"listen": [
            "7301", {"address": "unix:/run/x", "user": "joe", "group": "mail", "mode": "0660"}, "unix:@x"]}),
        ("ListenStream=\nListenStream=/run/x", {"listen": "unix:/run/x", "env_dialect": "systemd"}),
        ("MaxConnections=5\nMaxConnectionsPerSource=2\nBacklog=9", {"max_connections": "5", "max_per_ip": "2",
            "ipv6_prefix": "128", "backlog": "9"}),
        ("NoDelay=true\nKeepAlive=1", {"nodelay": "yes", "keepalive": "yes"}),
        ("TriggerLimitBurst=20\nTriggerLimitIntervalSec=1min 30s", {"rate": "13/min"}),
        ("IPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.0/8", {"default_action": "deny",
            "rules": [{"from": ["127.0.0.0/8", "::1", "10.0.0.0/8"], "allow": "yes"}]}),
        ("IPAddressDeny=192.0.2.0/24", {"rules": [{"from": "192.0.2.0/24", "deny": "yes"}]}),
    ],
)  # fmt: skip
def test_keys_of_the_socket(root: Path, sock: str, settings_: dict[str, Any]) -> None:
    found, notes = imported(root, sock)
    assert notes == []
    assert found is not None
    assert {key: found.get(key) for key in settings_} == settings_


@pytest.mark.parametrize(
    ("service", "settings_"),
    [
        ("User=\nGroup=mail", {"user": "root", "group": "mail", "user_env": None}),
        ("ExecStart=\nExecStart=@/bin/cat dog \"a b\" 'c' %% %p\\x20x", {
            "program": ["/bin/cat", "a b", "c", "%", "echo x"], "argv0": "dog"}),
        ("Environment=A=1 'B=x y'\nEnvironment=A=2\nExecStart=\nExecStart=/bin/cat ${A}.$$ $B \\\n  x$B", {
            "program": ["/bin/cat", "2.$", "x", "y", "x$B"], "env": {"A": "2", "B": "x y"}}),
        ("EnvironmentFile=/etc/variables\nEnvironmentFile=-/none\nPassEnvironment=TZ LANG", {
            "env": {"FROM_FILE": "a b"}, "inherit_env": ["TZ", "LANG"]}),
        ("StandardError=journal\nNice=5\nUMask=0077\nNoNewPrivileges=yes\nRuntimeMaxSec=1h", {
            "stderr": None, "nice": "5", "umask": "077", "no_new_privs": "yes", "max_lifetime": "3600s"}),
        ("WorkingDirectory=/etc\nLimitNOFILE=100:200\nLimitAS=1G\nLimitCORE=infinity\nLimitSTACK=1", {
            "chdir": "/etc", "rlimits": {"nofile": "100", "as": "1G", "core": "infinity"},
            "program": ["/usr/bin/prlimit", "--stack=1", "/bin/cat"]}),
        ("PrivateTmp=no\nType=simple\nIPAddressDeny=any", {"default_action": "deny"}),
    ],
)  # fmt: skip
def test_keys_of_the_service(root: Path, service: str, settings_: dict[str, Any]) -> None:
    found, notes = imported(root, service=service)
    assert notes == []
    assert found is not None
    assert {key: found.get(key) for key in settings_} == settings_


@pytest.mark.parametrize(
    ("sock", "service", "what"),
    [
        ("Accept=no", "", "without Accept=yes its service gets the listening socket"),
        ("ListenStream=/run/x\nSocketUser=nosuch", "", "there is no user nosuch"),
        ("ListenStream=/run/x\nSocketGroup=nosuch", "", "there is no group nosuch"),
        ("ListenStream=vsock::5", "", "vsock::5 is neither TCP nor a Unix socket"),
        ("ListenStream=", "", "it has no ListenStream="),
        ("ListenDatagram=5", "", "ListenDatagram=5 is no stream"),
        ("IPAddressDeny=10.0.0.1/8", "", "10.0.0.1/8: "),
        (
            "",
            "StandardInput=null",
            "without StandardInput=socket its program has the connection as descriptor 3",
        ),
        ("", "StandardOutput=journal", "StandardOutput=journal: descriptor 1 is not the connection"),
        ("", "User=nosuch", "there is no user nosuch"),
        ("", "DynamicUser=yes", "DynamicUser= has no equivalent"),
        ("", "ExecStart=", "its service has no ExecStart="),
        ("", "ExecStart=\nExecStart=/no/such", "there is no program /no/such"),
        ("", "ExecStart=\nExecStart=/bin/cat %i", "%i in ExecStart= is not known"),
        (
            "",
            "ExecStart=\nExecStart=/bin/cat $REMOTE_ADDR",
            "$REMOTE_ADDR, which the connection has, in ExecStart=",
        ),
        ("", "ExecStart=\nExecStart=+/bin/cat", "+ ran the program with other rights than the unit's"),
        ("", "ExecStart=\nExecStart=/bin/cat 'x", "ExecStart= has a ' without its second"),
        ("", "EnvironmentFile=/none", "/none cannot be read: No such file"),
    ],
)
def test_a_service_that_needs_what_there_is_not_is_a_comment(
    root: Path, sock: str, service: str, what: str
) -> None:
    found, notes = imported(root, sock, service)
    assert found is None
    assert any(note.startswith(what) for note in notes), notes


@pytest.mark.parametrize(
    ("sock", "service", "what"),
    [
        ("FreeBind=yes", "", "FreeBind=yes has no equivalent"),
        ("ExecStartPre=/bin/cat", "", "ExecStartPre=/bin/cat has no equivalent"),
        ("", "PrivateTmp=yes", "PrivateTmp=yes has no equivalent"),
        ("", "SupplementaryGroups=mail", "SupplementaryGroups=mail came to the user's own"),
        ("", "WorkingDirectory=~", "WorkingDirectory=~ is the user's home"),
        ("", "RuntimeMaxSec=soon", "RuntimeMaxSec=soon is no time"),
        ("", "LimitCPU=2min", "LimitCPU=2min is no number"),
    ],
)
def test_a_service_goes_without_the_rest(root: Path, sock: str, service: str, what: str) -> None:
    found, notes = imported(root, sock, service)
    assert found is not None
    assert notes == [what]


def test_what_is_dropped_in_counts(root: Path) -> None:
    for name, text in {
        "echo.socket": "[Socket]\nMaxConnections=7\n",
        "echo@.service": "[Service]\nNice=3\n",
    }.items():
        (root / UNITS / f"{name}.d").mkdir()
        (root / UNITS / f"{name}.d" / "10-more.conf").write_text(text)
        (root / UNITS / f"{name}.d" / "ignored").write_text("nonsense\n")
    found, notes = imported(root)
    assert notes == []
    assert found is not None
    assert (found["max_connections"], found["nice"]) == ("7", "3")


def test_a_directory_of_units(root: Path) -> None:
    imported(root)
    written, _ = import_paths([f"/{UNITS}"], Host(str(root)))
    of_the_template, _ = import_paths([f"/{UNITS}/echo@.service"], Host(str(root)))
    assert written is not None
    assert of_the_template is not None
    assert written.partition("\ncontrol")[2] == of_the_template.partition("\ncontrol")[2]
    assert list(yaml.safe_load(written)["services"]) == ["echo"]


def test_a_template_that_is_not_there(root: Path) -> None:
    (root / UNITS / "x.socket").write_text("[Socket]\nListenStream=1\nAccept=yes\n")
    written, description = import_paths([f"/{UNITS}/x.socket"], Host(str(root)))
    assert written is None
    assert [note.what for note in description.all_notes()] == [
        "there is no x@.service beside it or in systemd's directories"
    ]


def test_a_line_that_is_no_assignment_is_an_error(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"echo\.socket:4: neither a section nor KEY=VALUE"):
        imported(root, "what")


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5), ("2s", 2), ("1min 30s", 90), ("500ms", 0.5), ("infinity", float("inf"))]
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


def test_words() -> None:
    assert split_words(r"""a "b \"c" 'd e' f\x20g '' x"y" """) == ["a", 'b "c', "d e", "f g", "", "xy"]


PIECE = st.sampled_from(
    ["[Socket]\n", "[Service]\n", "Accept=yes\n", "ListenStream=", "7301", "\n", "=", "\\\n", "'", '"',
     "%i", "$A",
     "\\x", "\udcff", "User=root\n", "ExecStart=/bin/cat ", "Environment=", "LimitAS=", "1G", "é", "#", ";",
     "IPAddressAllow=", "any "]
)  # fmt: skip


@settings(max_examples=examples(60), deadline=None)
@given(pieces=st.lists(PIECE, max_size=20))
def test_any_unit_is_imported_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("x.socket", "x@.service"):
        (folder / name).write_bytes("".join(pieces).encode("utf-8", "surrogateescape"))
    problems: list[str] = []
    try:
        written, description = import_paths([str(folder / "x.socket")], Host())
        assert (written is None) == (not description.running())
    except ConfigError as error:
        problems = error.problems
    assert [problem for problem in problems if not problem.startswith(f"{folder}/x")] == []


def test_a_pair_of_units_that_are_both_named_is_one_service(root: Path) -> None:
    alone, _ = imported(root)
    pair = [f"/{UNITS}/echo.socket", f"/{UNITS}/echo@.service", f"/{UNITS}/echo.socket"]
    for paths in (pair, pair[::-1]):
        written, description = import_paths(paths, Host(str(root)))
        assert written is not None
        assert list(yaml.load(written, yaml.BaseLoader)["services"].values()) == [alone]
        assert [note.what for note in description.all_notes()] == []
