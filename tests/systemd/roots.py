"""Makes the root file systems that tests boot: Debian with systemd, and what ucspid needs. make test-systemd.

They are made once, and kept outside the clone. What cannot be made is said, and its tests are skipped.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from container import CACHE, SUITES, root_of

TOP = Path(__file__).parents[2]
PACKAGES = "systemd,systemd-sysv,dbus,python3-venv,iproute2"
MIRROR = "http://deb.debian.org/debian"
TIMEOUT = 240
"""Seconds for a step; they take one or two minutes where packages come fast."""


def main(suites: list[str]) -> int:
    """Make those of these that are missing."""
    for suite in suites:
        python = SUITES[suite]
        if not root_of(suite).exists():
            print(f"make: a root file system of Debian {suite} for the tests: {root_of(suite)}", flush=True)
            if problem := make(suite, python):
                print(f"make: {suite} cannot be made here: {problem}: its tests are skipped")
    return 0


def make(suite: str, python: str) -> str:
    """Make one; return why that is not possible."""
    if os.geteuid() != 0:
        return "that takes root"
    for command in ("debootstrap", "systemd-nspawn"):
        if shutil.which(command) is None:
            return f"{command} is not installed (Debian packages: debootstrap, systemd-container)"
    unfinished = CACHE / f"{suite}.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    variant = ["--variant=minbase", f"--include={PACKAGES}"]
    with (CACHE / f"{suite}.log").open("w") as log:
        steps = (
            ["debootstrap", *variant, suite, str(unfinished), MIRROR],
            ["chroot", str(unfinished), "python3", "-m", "venv", "/opt/ucspid"],
            [*pip("download", python), "--dest", str(unfinished / "wheels"), *dependencies()],
            [
                *("chroot", str(unfinished), "/opt/ucspid/bin/pip", "install", "--no-index"),
                *("--find-links=/wheels", *dependencies()),
            ],
        )
        for step in steps:
            try:
                subprocess.run(step, stdout=log, stderr=log, check=True, timeout=TIMEOUT)
            except subprocess.CalledProcessError:
                return f"{step[0]} fails, see {log.name}"
            except subprocess.TimeoutExpired:
                return f"{step[0]} has not ended within {TIMEOUT} s, see {log.name}"
    unfinished.rename(root_of(suite))
    return ""


def pip(verb: str, python: str) -> list[str]:
    """Return the command of this environment's pip for the Python of a suite."""
    constraints = str(TOP / "constraints.txt")
    foreign = ["--python-version", python, "--only-binary=:all:", "--constraint", constraints]
    return [sys.executable, "-m", "pip", verb, "--quiet", *foreign]


def dependencies() -> list[str]:
    """Return what the package needs."""
    with (TOP / "pyproject.toml").open("rb") as file:
        needed: list[str] = tomllib.load(file)["project"]["dependencies"]
    return needed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
