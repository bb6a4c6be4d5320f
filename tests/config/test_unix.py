"""Unix sockets in the file: where, who may connect, and rules for who does."""

import grp
import pwd
from pathlib import Path

import pytest

from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.net.endpoint import Endpoint
from ucspid.net.unix import SocketFile
from ucspid.plan import Service

NOBODY = pwd.getpwnam("nobody").pw_uid
DAEMON = grp.getgrnam("daemon").gr_gid


def read(folder: Path, text: str) -> Service:
    """Return the service that a file has."""
    (folder / "u.yaml").write_text(f"services: {{s: {{program: [sh], {text}}}}}\n")
    return load(str(folder / "u.yaml")).services[0]


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("unix:PATH", SocketFile(path="PATH")),
        ("{address: unix:PATH}", SocketFile(path="PATH", mode=0o666)),
        ('{address: unix:PATH, mode: "0660"}', SocketFile(path="PATH", mode=0o660)),
        ("{address: unix:PATH, mode: 0600, user: nobody}", SocketFile(path="PATH", mode=0o600, uid=NOBODY)),
        ("{address: unix:PATH, user: 7, group: daemon}", SocketFile(path="PATH", uid=7, gid=DAEMON)),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_where_to_listen_and_who_may_connect(
    tmp_path: Path, text: str, file: SocketFile, alone: bool
) -> None:
    path = str(tmp_path / "s")
    written = text.replace("PATH", path)
    found = read(tmp_path, f"listen: {written}" if alone else f"listen: [25, {written}, 'unix:@s']")
    unix = Endpoint(f"unix:{path}", 0)
    assert found.listen == ((unix,) if alone else (Endpoint("", 25), unix, Endpoint("unix:@s", 0)))
    assert found.socket_files == (
        SocketFile(path=path, mode=file.mode, uid=file.uid, gid=file.gid),
    )  # fmt: skip


def test_users_and_groups_in_rules_are_numbers_in_the_plan(tmp_path: Path) -> None:
    rules = read(
        tmp_path, "listen: unix:@s, rules: [{from: ['uid:nobody', 'gid:daemon', 'uid:7', 'unix:'], deny}]"
    ).rules
    assert isinstance(rules, tuple)
    assert rules[0].from_ == (f"uid:{NOBODY}", f"gid:{DAEMON}", "uid:7", "unix:")


def test_a_rule_for_processes_is_for_nobody_without_a_unix_socket(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a process matches no client: service s needs listen: unix:PATH"):
        read(tmp_path, "listen: 25, rules: [{from: 'uid:7', deny}]")
