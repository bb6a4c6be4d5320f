"""What installing from the source makes: with a C compiler and without."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from daemon import running
from installed import Installation
from ucspid.config.launchers import launcher_kind
from ucspid.config.problems import Problems
from ucspid.launcher.paths import NATIVE

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ["src", "contrib", "docs", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"]
EXECUTABLE = "ucspid/launcher/ucspid-launcher"


pytestmark = pytest.mark.timeout(300)  # pip builds and compiles: a minute where others use the CPUs


class Built(NamedTuple):
    """A wheel, and what was said while it was made."""

    wheel: Path
    said: str


def build(folder: Path, compiler: str) -> Built:
    """Make a wheel of the source as pip does, with nothing downloaded."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("*.egg-info", "__pycache__", Path(NATIVE).name)
            shutil.copytree(ROOT / name, source / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--verbose", "--no-build-isolation", "--no-deps"]
    made = subprocess.run(
        [*command, "--disable-pip-version-check", "--no-index", "--wheel-dir", str(folder), str(source)],
        env=os.environ | {"CC": compiler},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout
    (wheel,) = folder.glob("*.whl")
    return Built(wheel, made.stdout)


def install(wheel: Path, folder: Path) -> Installation:
    """Put a wheel in an environment of its own."""
    folder.mkdir()
    installation = Installation(folder)
    shutil.rmtree(installation.package)
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            path = Path(archive.extract(item, installation.package.parent))
            path.chmod(item.external_attr >> 16 & 0o777 or 0o644)
    return installation


def kind_in_use(wheel: Path, folder: Path) -> str:
    """Run a daemon of a wheel's; return which launcher it takes by itself."""
    installation = install(wheel, folder)
    services = {"echo": {"listen": "127.0.0.1:0", "program": ["cat"]}}
    config = {"launcher": "auto", "services": services}
    with running(folder, config, command=installation.command) as daemon:
        assert daemon.talk("echo", b"x") == b"x"
        return str(daemon.processes("launcher")[0]["kind"])


def test_without_a_compiler_it_is_for_every_machine_and_the_launcher_is_the_one_in_python(
    tmp_path: Path,
) -> None:
    built = build(tmp_path, "/does/not/exist/cc")
    assert (
        "the native launcher is left out, the one in Python will be used: there is no C compiler"
        in built.said
    )
    assert built.wheel.name.endswith("-py3-none-any.whl")
    assert EXECUTABLE not in zipfile.ZipFile(built.wheel).namelist()
    assert kind_in_use(built.wheel, tmp_path / "installed") == "python"


def test_with_a_compiler_it_has_the_native_launcher_and_is_for_such_machines(tmp_path: Path) -> None:
    if launcher_kind("auto", Problems()) != "native":
        pytest.skip("the native launcher cannot be built here")
    built = build(tmp_path, os.environ.get("CC", "cc"))
    assert f"-py3-none-linux_{os.uname().machine}.whl" in built.wheel.name
    assert EXECUTABLE in zipfile.ZipFile(built.wheel).namelist()
    assert kind_in_use(built.wheel, tmp_path / "installed") == "native"
