"""The daemon in locales whose encoding is not UTF-8: what the file says reaches programs as it is."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import running
from folders import public_folder

ASCII = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
"""Without the two, Python would take this locale for UTF-8."""


@pytest.fixture(params=["ascii", "latin1"])
def locale(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a locale."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    if request.param == "ascii":
        return own | ASCII
    name = "de_DE.ISO-8859-1"
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", tmp_path / name], check=False, capture_output=True
    )
    if not made or made.returncode:
        pytest.skip(f"{name} cannot be made here: localedef and its sources are missing (Debian: locales)")
    return own | {"LC_ALL": name, "LOCPATH": str(tmp_path)}


def encoding(environment: dict[str, str]) -> bytes:
    command = [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"]
    return subprocess.run(command, check=True, capture_output=True, env=environment).stdout


def test_files_arguments_and_environment_are_utf8_whatever_the_locale(locale: dict[str, str]) -> None:
    assert encoding(locale) not in (b"utf-8\n", b"")
    environment = locale | {"TAKEN": "ö €"}
    with public_folder() as base:
        folder = base / "größe €"
        folder.mkdir(mode=0o755)
        program, control = folder / "prögram", folder / "cöntrol"
        shutil.copy("/bin/cat", program)
        service = {
            "listen": "127.0.0.1:0",
            "program": [str(program), "/proc/self/cmdline", "/proc/self/environ", "€"],
            "chdir": str(folder),
            "env": {"EURO": "ü €"},
            "inherit_env": ["TAKEN"],
            "stderr": "null",
        }
        config = {"control": str(control), "services": {"a": service}}
        with running(base, config, env=environment) as daemon:
            daemon.control = control
            daemon.reload({"services": {"a": service, "b": service}})
            expected = {text.encode() for text in ("EURO=ü €", "TAKEN=ö €", "€", str(program))}
            assert expected <= {*daemon.talk("a").split(b"\0")}
            assert expected <= {*daemon.talk("b").split(b"\0")}
            command = [sys.executable, "-m", "ucspid", "status", "--control", str(control)]
            assert subprocess.run(command, check=True, capture_output=True, env=environment).stderr == b""
            daemon.signal(signal.SIGUSR2)
            daemon.wait_event("upgraded")
            assert expected <= {*daemon.talk("b").split(b"\0")}
