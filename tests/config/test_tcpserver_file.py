"""tcpserver --print-config: the file makes the daemon do what the command line does."""

import os
from pathlib import Path

import pytest

from ucspid.config.load import load
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Plan
from ucspid.profile import Profile
from ucspid.records import replace
from ucspid.tcpserver.config_file import config_file
from ucspid.tcpserver.options import parse
from ucspid.tcpserver.planned import plan

LINES = [
    "",
    "-v",
    "-q",
    "-vRHl0 -c5 -b7 -D -o",
    "-x rules.cdb",
    "-X -x /var/rules.cdb",
    "-B 220ready -p -t5",
    "-Pp -l mx.test -t99999",
    "-c0 -b0 -t0",
    "-c99999999 -b99999999",
    "--max-per-ip 5 --rate-per-ip 10/min --rate 7/s --refuse-message busy --control control",
]


def both(line: str, folder: Path, port: str = "25") -> tuple[Plan, Plan]:
    """Return the plan of a command line, and that of the file that is printed for it."""
    environ = {name: value for name, value in os.environ.items() if name != "DNSCACHEIP"}
    options = parse([*line.split(), "0", port, "cat", "-u"], environ)
    listen = Endpoint("0.0.0.0", 2525)
    file = folder / "ucspid.yaml"
    file.write_text(config_file(options, listen, environ, str(folder), is_root=False))
    loaded = load(file)
    return plan(options, listen, environ, str(folder), Profile(), Profile(), loaded.launcher), loaded


def anybody(made: Plan) -> Plan:
    """Return a plan without what a file names and a command line leaves as it is: users, folder, umask."""
    services = tuple(replace(service, profile=Profile()) for service in made.services)
    return replace(made, uid=None, gid=None, groups=None, services=services)


@pytest.mark.parametrize("line", LINES)
def test_the_file_says_what_the_command_line_does(line: str, tmp_path: Path) -> None:
    given, loaded = both(line, tmp_path)
    assert anybody(given) == anybody(loaded)


@pytest.mark.parametrize(("port", "name"), [("smtp", "smtp"), ("25", "port-25"), ("0", "port-0")])
def test_the_service_has_the_name_of_its_port(port: str, name: str, tmp_path: Path) -> None:
    given, loaded = both("", tmp_path, port)
    assert (given.services[0].name, loaded.services[0].name) == (name, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
@pytest.mark.parametrize(
    ("line", "user", "loop"),
    [
        ("-u7791 -g2108", (7791, 2108, (2108,)), 7791),
        ("-u7791", (7791, 0, (0,)), None),
        ("", (0, 0, (0,)), None),
    ],
)
def test_users_are_named(
    line: str, user: tuple[int, int, tuple[int, ...]], loop: int | None, tmp_path: Path
) -> None:
    options = parse([*line.split(), "0", "25", "cat"], {})
    file = tmp_path / "ucspid.yaml"
    file.write_text(config_file(options, Endpoint("0.0.0.0", 2525), {}, "/", is_root=True))
    made = load(file)
    profile = made.services[0].profile
    assert (profile.uid, profile.gid, profile.groups) == user
    assert made.uid == loop if loop else made.uid
