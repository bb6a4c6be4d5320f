"""Real mail under one daemon: Debian's mailfront and the programs of examples/mail, with real clients."""

import os
import poplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import peers
from contract import PROGRAMS
from daemon import TIMEOUT, Daemon, running
from folders import public_folder

ROOT = Path(__file__).resolve().parent.parent
SENDER = "me@example.org"
TEXT = b"Subject: hello\n\n.a line that begins with a dot\nand the end\n"


def poll(daemon: Daemon, user: str, password: str) -> list[bytes]:
    """Return all messages by POP3 and delete them."""
    client = poplib.POP3(*daemon.address("pop3"), timeout=TIMEOUT)
    client.user(user)
    client.pass_(password)
    messages = []
    for number in range(1, client.stat()[0] + 1):
        messages.append(b"\n".join(client.retr(number)[1]) + b"\n")
        client.dele(number)
    client.quit()
    return messages


def run_swaks(daemon: Daemon, recipient: str) -> str:
    """Send a message with swaks and return the dialogue."""
    host, port = daemon.address("smtp")
    command = [
        peers.require("swaks"), "--server", host, "--port", str(port), "--from", SENDER, "--to", recipient,
        "--header", "Subject: by swaks", "--body", "sent by swaks",
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


# Debian's mailfront


@pytest.fixture(scope="module")
def mailfront() -> Iterator[Daemon]:
    """Return a daemon with mailfront's three servers and a Maildir with one message in it."""
    front = {name: peers.require(f"{name}front-echo") for name in ("smtp", "qmtp")}
    auth, maildir = peers.require("pop3front-auth"), peers.require("pop3front-maildir")
    with public_folder() as folder:
        for name in ("new", "cur", "tmp"):
            (folder / "Maildir" / name).mkdir(parents=True)
        (folder / "Maildir" / "new" / "1.2.3").write_bytes(TEXT)
        listen = {"listen": "127.0.0.1:0"}
        pop3 = {"program": [auth, str(PROGRAMS / "checkpassword.py"), maildir, "Maildir"], "chdir": "."}
        if os.geteuid() == 0:
            pop3["user"] = "root"  # it becomes the user who has logged in
            for path in [folder / "Maildir", *(folder / "Maildir").rglob("*")]:
                os.chown(path, 65534, 65534)
        services = {
            **{
                name: {**listen, "program": [path], "env": {"PLUGINS": "accept"}}
                for name, path in front.items()
            },
            "pop3": {**listen, **pop3},
        }
        with running(folder, {"services": services}) as daemon:
            yield daemon
