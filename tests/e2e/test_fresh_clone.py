"""What comes with the project runs as it is: its file and programs, in a clone that was never used."""

import contextlib
import os
import poplib
import re
import shutil
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import TIMEOUT, Daemon
from folders import public_folder

ROOT = Path(__file__).resolve().parents[2]
KEPT = ["config", "examples", "Makefile", "pyproject.toml", "constraints.txt"]


@pytest.fixture
def clone() -> Iterator[Path]:
    """Return a copy of what the project keeps, below a folder that only its owner can enter."""
    with public_folder(os.geteuid()) as top:
        (top / "home").mkdir(mode=0o700)
        clone = top / "home" / "clone"
        clone.mkdir()
        for name in KEPT:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, clone / name)
        yield clone


class Shipped(Daemon):
    """A daemon on a file that is there already."""

    def write(self, config: object = None) -> None:
        assert config is None


def test_the_file_that_comes_with_it_runs_in_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    config = clone / "config" / "ucspid.yaml"
    text, count = re.subn(r"(127\.0\.0\.1):\d+", r"\1:0", config.read_text())
    assert count == 5
    subprocess.run([sys.executable, clone / "examples/mail/self_signed.py", clone / "var/tls"], check=True)
    with public_folder() as temporary:
        config.write_text(text.replace("defaults:\n", f"defaults:\n  env: {{TMPDIR: {temporary}}}\n"))
        daemon = Shipped(config.parent, {})
        daemon.control = clone / "var" / "control"
        try:
            daemon.start(cwd=tmp_path)
            with smtplib.SMTP(*daemon.address("smtp"), timeout=TIMEOUT) as smtp:
                assert smtp.sendmail("me@example.org", "Postmaster", "Subject: first\n\n") == {}
            with contextlib.closing(poplib.POP3(*daemon.address("pop3"), timeout=TIMEOUT)) as pop3:
                pop3.user("you")
                pop3.pass_("secret")
                assert b"Subject: first" in pop3.retr(1)[1]
            own = ssl.create_default_context(cafile=clone / "var/tls/fullchain.pem")
            own.check_hostname = False
            with smtplib.SMTP_SSL(*daemon.address("smtps"), timeout=TIMEOUT, context=own) as smtp:
                assert smtp.sendmail("me@example.org", "Postmaster", "Subject: second\n\n") == {}
            with contextlib.closing(
                poplib.POP3_SSL(*daemon.address("pop3s"), timeout=TIMEOUT, context=own)
            ) as pop3:
                pop3.user("you")
                pop3.pass_("secret")
                assert b"Subject: second" in pop3.retr(2)[1]
            assert daemon.stop() == 0
        finally:
            daemon.kill()
    assert {path.name for path in clone.iterdir()} - set(KEPT) == {"var"}


def planned(clone: Path, target: str) -> str:
    """Return what make would do, whatever the make was told that runs the tests."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        ["make", "-n", target], cwd=clone, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_make_run_says_what_it_does_and_installs_no_more_than_that_needs(clone: Path) -> None:
    steps = planned(clone, "run")
    assert "--editable ." in steps
    assert "[dev]" not in steps
    assert [line for line in steps.splitlines() if line.startswith("echo")] == [
        'echo "make: making .venv with $(python3 --version)"',
        "echo 'make: installing ucspid and what it needs into .venv; this may take a minute'",
    ]
    assert "[dev]" in planned(clone, "setup")
