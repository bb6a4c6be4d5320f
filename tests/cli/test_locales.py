"""What the command and the reader read and write is UTF-8, whatever the locale."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from folders import public_folder
from ucspid.master.roles import PYTHON

CONFIG = """\
services:
  s:
    listen: 127.0.0.1:0
    program: [./prüfung, "5 €"]
    chdir: größe
    env: {WÄHRUNG: "€", PREIS: "5 €"}
    inherit_env: [GRUß]
    rules: [{from: 192.0.2.1, deny, message: "554 für €\\r\\n"}, {allow, env: {FÜR: ü}}]
"""
COMMAND = [sys.executable, "-m", "ucspid"]
LATIN1 = "en_US.ISO-8859-1"
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
"""Without the two, Python would take this locale for UTF-8."""


def locale(name: str, folder: Path) -> Mapping[str, str]:
    """Return the variables of a locale; the one of ISO-8859-1 is made in the folder."""
    if name != LATIN1:
        return ASCII if name == "ascii" else {"LC_ALL": name}
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / LATIN1)]
    if shutil.which("localedef") is None or subprocess.run(command, check=False, timeout=60).returncode:
        pytest.skip(f"{LATIN1} cannot be made here: install locales")
    return {"LC_ALL": LATIN1, "LOCPATH": str(folder)}


@pytest.fixture(scope="module", params=["C", pytest.param("POSIX", marks=pytest.mark.slow), "ascii", LATIN1])
def env(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    others = ("LC_", "LANG", "PYTHON")
    own = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return {**own, **locale(request.param, tmp_path_factory.mktemp("locale")), "GRUß": "Grüße €"}


@pytest.fixture
def config(folder: Path) -> Path:
    (folder / "größe").mkdir()
    program = folder / "größe" / "prüfung"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = folder / "ü€.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


def output(command: list[str], env: Mapping[str, str], *, code: int = 0) -> str:
    ended = subprocess.run(command, env=env, capture_output=True, check=False, timeout=30)
    assert ended.returncode == code, ended.stderr
    return (ended.stdout + ended.stderr).decode()


def test_check_finds_paths_and_prints_them(config: Path, env: Mapping[str, str]) -> None:
    assert output([*COMMAND, "check", "-c", str(config)], env) == f"{config}: ok, 1 service\n"


def test_mistakes_are_printed_as_they_are(config: Path, env: Mapping[str, str]) -> None:
    user = "user nobody" if os.geteuid() == 0 else f"user id {os.geteuid()}"
    config.write_text(CONFIG.replace("./prüfung", "./größer").replace("listen: 127.0.0.1:0", "listen: €"))
    assert output([*COMMAND, "check", "-c", str(config)], env, code=100).splitlines() == [
        f'{config}:3:13: services.s.listen: "€" is neither a port nor a TCP service of services(5)',
        f"{config}:4:14: services.s.program: ./größer: no such file (looked for as {user})",
    ]


def test_explain_shows_what_the_program_gets(config: Path, env: Mapping[str, str]) -> None:
    lines = output([*COMMAND, "explain", "-c", str(config), "s", "192.0.2.2", "--info", "jürgen"], env)
    for part in ("WÄHRUNG=€", "PREIS=5 €", "GRUß=Grüße €", "FÜR=ü", "'5 €'", "ident user jürgen"):
        assert part in lines
    lines = output([*COMMAND, "explain", "-c", str(config), "s", "192.0.2.1"], env)
    assert '"554 für €\\r\\n"' in lines


def test_the_reader_says_what_stands_in_the_file(config: Path, env: Mapping[str, str]) -> None:
    said = output([*PYTHON, "-m", "ucspid.config", str(config)], env)
    service = json.loads(said.splitlines()[1])
    assert service["argv"] == ["./prüfung", "5 €"]
    assert {("WÄHRUNG", "€"), ("GRUß", "Grüße €")} <= {(name, value) for name, value in service["env"]}
    assert service["profile"]["cwd"] == str(config.parent / "größe")
    assert service["rules"][0]["where"] == f"{config}:8"


@pytest.mark.parametrize("name", [b"\xfc.yaml", b"\xff\xfe.yaml"])
def test_a_file_whose_name_is_not_utf8_is_read(folder: Path, env: Mapping[str, str], name: bytes) -> None:
    path = os.fsencode(folder) + b"/" + name
    with open(path, "wb") as file:
        file.write(b"services: {s: {listen: 127.0.0.1:0, program: [/bin/sh]}}\n")
    for each in (env, os.environ):
        ended = subprocess.run(
            [*COMMAND, "check", "-c", path], env=each, capture_output=True, timeout=30, check=True
        )
        assert ended.stdout == path + b": ok, 1 service\n"
