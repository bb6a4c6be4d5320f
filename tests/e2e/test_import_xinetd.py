"""Round trips of xinetd.conf: what Debian's xinetd does with it, ucspid does with what was imported."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import peers
from folders import public_folder
from free_ports import free_ports
from imported import HOLD, REPORT, accepted, ask, imported, running_text, serving, write_program

XINETD = peers.require("xinetd")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="xinetd takes other users' rights, which takes root"
)

SERVICES: dict[str, dict[str, str]] = {
    "plain": {},
    "args": {"server_args": "one 'two  three", "env": "A=b C=d=e", "env +": "F=g", "user": "daemon"},
    "rights": {"group": "mail", "umask": "027", "nice": "3", "rlimit_as": "500M", "rlimit_files": "100"},
    "groups": {"groups": "yes", "user": "root"},
    "named": {"flags": "NAMEINARGS IPv4", "server_args": "other one"},
    "small": {"rlimit_files": "20"},
    "net": {"only_from": "127.0.1.0"},
    "long": {"only_from": "127.0.1.0/25 127.0.2.9"},
    "parts": {"only_from": "127.0.3.{1,7}"},
    "all": {"only_from": "0.0.0.0", "no_access": "127.0.2.0"},
    "both": {"only_from": "127.0.2.9", "no_access": "127.0.2.0"},
    "none": {"only_from": ""},
    "more": {"only_from +": "127.0.2.9"},
    "less": {"only_from -": "127.0.9.1"},
    "off": {"disable": "yes"},
    "out": {},
    "banner": {"banner": "{folder}/banner", "only_from": "127.0.1.0 127.0.0.1"},
    "fail": {"only_from": "127.0.1.0", "banner_fail": "{folder}/banner"},
}
"""Each one's attributes, beside those that all have; with " +" after its name the operator is +=."""

HOLDING: dict[str, dict[str, str]] = {
    "instances": {"instances": "2"},
    "source": {"per_source": "2"},
    "rate": {"cps": "3 30"},
    "told": {"instances": "1", "banner_fail": "{folder}/banner"},
    "many": {},
}
SOURCES = ["127.0.0.1", "127.0.1.1", "127.0.1.200", "127.0.2.9", "127.0.3.7", "127.0.3.8", "127.0.9.1"]
FAMILIES = {"plain": "::1", "named": "::1", "net": "::1"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        write_program(path / "report", REPORT)
        write_program(path / "hold", HOLD)
        (path / "banner").write_text("too many\r\n")
        yield path


def service(name: str, port: int, server: Path, attributes: Mapping[str, str]) -> str:
    given = {
        "type": "UNLISTED", "socket_type": "stream", "protocol": "tcp", "wait": "no", "user": "nobody",
        "port": str(port), "server": str(server), **attributes,
    }  # fmt: skip
    lines = []
    for key, value in given.items():
        attribute, plus, _ = key.partition(" ")
        operator = f"{key[-1]}=" if plus else "="
        lines.append(f"\t{attribute} {operator} {value.replace('{folder}', str(server.parent))}\n")
    return f"# {name}\nservice {name}\n{{\n{''.join(lines)}}}\n"


def configuration(folder: Path, ports: Mapping[str, int]) -> Path:
    """Write a file with an includedir; return its path."""
    (folder / "xinetd.d").mkdir()
    for name, attributes in SERVICES.items():
        (folder / "xinetd.d" / name).write_text(service(name, ports[name], folder / "report", attributes))
    (folder / "xinetd.d" / "plain.bak").write_text("this is not read")
    lists = "\tonly_from = 127.0.0.0/16 127.0.9.1\n\tdisabled = out\n"
    defaults = f"defaults\n{{\n\tcps = 1000 1\n\tonly_from = ::1\n{lists}}}\n"
    path = folder / "xinetd.conf"
    holding = [service(name, ports[name], folder / "hold", given) for name, given in HOLDING.items()]
    path.write_text("".join([defaults, *holding, f"includedir {folder}/xinetd.d\n"]))
    return path


def xinetd(config: Path) -> list[str | Path]:
    return [XINETD, "-dontfork", "-f", config, "-pidfile", f"{config}.pid"]


def test_the_same_clients_get_the_same_programs(folder: Path) -> None:
    names = [*SERVICES, *HOLDING]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    config = configuration(folder, ports)
    text, description = imported(config)
    assert list(description.all_notes()) == []

    def answers() -> dict[str, list[str]]:
        found = {f"{name} {source}": ask(ports[name], source) for name in SERVICES for source in SOURCES}
        found |= {f"{name} {host}": ask(ports[name], host, host) for name, host in FAMILIES.items()}
        return found | {name: accepted(ports[name], 5) for name in HOLDING}

    with serving(xinetd(config), ports["plain"]):
        theirs = answers()
    with running_text(folder, text):
        ours = answers()
    assert ours == theirs
    assert [name for name in SERVICES if ours[f"{name} 127.0.0.1"]] == [
        "plain", "args", "rights", "groups", "named", "small", "all", "more", "less", "banner", "fail"
    ]  # fmt: skip
    assert ours["fail 127.0.0.1"] == ["too many"]
    assert ours["banner 127.0.2.9"] == ["too many"]
    assert ours["plain ::1"]
    assert not ours["named ::1"]
    assert ours["instances"] == ours["source"] == ["ready\n"] * 2 + [""] * 3
    assert ours["told"] == ["ready\n"] + ["too many\r\n"] * 4
