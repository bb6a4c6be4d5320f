"""Real mail under one daemon: Debian's mailfront and the programs of examples/mail, with real clients."""

import contextlib
import os
import poplib
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import certificates
import peers
import qmtp
from contract import PROGRAMS
from daemon import TIMEOUT, Daemon, running
from folders import public_folder

ROOT = Path(__file__).resolve().parents[2]
SENDER = "me@example.org"
TEXT = b"Subject: hello\n\n.a line that begins with a dot\nand the end\n"
CRLF_TEXT = TEXT.replace(b"\n", b"\r\n")
CHECKPASSWORD = PROGRAMS / "checkpassword.py"


def poll(daemon: Daemon, user: str, password: str) -> list[bytes]:
    """Return all messages by POP3 and delete them."""
    with contextlib.closing(poplib.POP3(*daemon.address("pop3"), timeout=TIMEOUT)) as client:
        client.user(user)
        client.pass_(password)
        messages = []
        for number in range(1, client.stat()[0] + 1):
            messages.append(b"\n".join(client.retr(number)[1]) + b"\n")
            client.dele(number)
        client.quit()
        return messages


def run_swaks(daemon: Daemon, recipient: str, *options: str, service: str = "smtp") -> str:
    """Send a message with swaks and return the dialogue."""
    host, port = daemon.address(service)
    command = [
        peers.require("swaks"), "--server", host, "--port", str(port), "--from", SENDER, "--to", recipient,
        "--header", "Subject: by swaks", "--body", "sent by swaks",
        *options,
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


# Debian's mailfront


@pytest.fixture(scope="module")
def mailfront() -> Iterator[Daemon]:
    """Return a daemon with mailfront's three servers and a Maildir for the user joe."""
    smtp, qmtp_ = peers.require("smtpfront-echo"), peers.require("qmtpfront-echo")
    auth, maildir = peers.require("pop3front-auth"), peers.require("pop3front-maildir")
    environment = {"PLUGINS": "accept", "TCPLOCALHOST": "mail.example.org"}
    tls = {"mode": "starttls", "certificates": str(certificates.shared() / "mail.example.org.pem")}
    services: dict[str, dict[str, Any]] = {
        "smtp": {"program": [smtp], "env": environment},
        "smtp_starttls": {
            "program": [smtp],
            "env": {**environment, "PLUGINS": "starttls-ucspi:accept"},
            "tls": tls,
        },
        "qmtp": {"program": [qmtp_], "env": {"PLUGINS": "accept"}},
        "pop3": {"program": [auth, str(CHECKPASSWORD), maildir, "Maildir"], "chdir": "."},
    }
    if os.geteuid() == 0:
        services["pop3"]["user"] = "root"  # it becomes the user who has logged in
    for service in services.values():
        service["listen"] = "127.0.0.1:0"
    with public_folder() as folder:
        make_maildir(folder / "Maildir")
        with running(folder, {"services": services}) as daemon:
            yield daemon


def make_maildir(path: Path) -> None:
    for folder in (path, path / "new", path / "cur", path / "tmp"):
        folder.mkdir()
        shutil.chown(folder, *owner_of(path.parent))


def deliver(daemon: Daemon, name: str) -> None:
    """Put a message for joe where POP3 finds it."""
    maildir = daemon.folder / "Maildir"
    (maildir / "tmp" / name).write_bytes(TEXT)
    shutil.chown(maildir / "tmp" / name, *owner_of(maildir))
    (maildir / "tmp" / name).rename(maildir / "new" / name)


def owner_of(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def test_smtplib_sends_mail_to_mailfront(mailfront: Daemon) -> None:
    with smtplib.SMTP(*mailfront.address("smtp"), timeout=TIMEOUT) as client:
        assert client.ehlo()[1].startswith(b"mail.example.org\n")
        assert client.sendmail(SENDER, ["one@example.org", "two@example.org"], CRLF_TEXT) == {}
        assert client.sock is not None
        host, port = client.sock.getsockname()
    served = mailfront.wait_event("connection_served", remote=f"{host}:{port}")
    to = "TO" if sys.version_info < (3, 13) else "to"  # as smtplib writes it
    line = f"mailfront[{served['pid']}]: RCPT {to}:<two@example.org>"
    assert mailfront.wait_event("program_stderr", line=line)["service"] == "smtp"


def test_swaks_sends_mail_to_mailfront(mailfront: Daemon) -> None:
    dialogue = run_swaks(mailfront, "swaks@example.org")
    assert "<-  220 mail.example.org mailfront ESMTP" in dialogue
    assert "<-  250 Recipient='swaks@example.org'." in dialogue


def test_swaks_starts_tls_with_mailfront(mailfront: Daemon) -> None:
    dialogue = run_swaks(mailfront, "swaks@example.org", "--tls", service="smtp_starttls")
    assert "=== TLS started with cipher TLSv1.3" in dialogue
    assert "<~  250 Recipient='swaks@example.org'." in dialogue
    assert mailfront.differences() == []


def test_a_qmtp_client_sends_mail_to_mailfront(mailfront: Daemon) -> None:
    responses = qmtp.send(mailfront.address("qmtp"), TEXT, SENDER, ["one@example.org"])
    assert responses == [f"KReceived {len(TEXT)} bytes."]


def test_poplib_reads_mail_from_mailfront(mailfront: Daemon) -> None:
    deliver(mailfront, "1.poplib.host")
    assert [message.rstrip() for message in poll(mailfront, "joe", "secret")] == [TEXT.rstrip()]
    assert poll(mailfront, "joe", "secret") == []


def test_mailfront_refuses_a_wrong_password(mailfront: Daemon) -> None:
    with pytest.raises(poplib.error_proto, match="-ERR"):
        poll(mailfront, "joe", "guessed")


def test_mailfronts_three_servers_talk_at_the_same_time(mailfront: Daemon) -> None:
    with (
        contextlib.closing(poplib.POP3(*mailfront.address("pop3"), timeout=TIMEOUT)) as pop3,
        socket.create_connection(mailfront.address("qmtp"), TIMEOUT) as qmtp_client,
        smtplib.SMTP(*mailfront.address("smtp"), timeout=TIMEOUT) as smtp,
    ):
        while mailfront.status()["totals"]["live"] != 3:
            """One of them is not accepted yet, or that of another test is about to end."""
        assert qmtp.send(qmtp_client, TEXT, SENDER, ["one@example.org"])[0].startswith("K")
        assert smtp.noop()[0] == 250
        pop3.user("joe")
        assert pop3.pass_("secret").startswith(b"+OK")
        assert qmtp.send(qmtp_client, TEXT, SENDER, ["two@example.org"])[0].startswith("K")
        pop3.quit()


# The programs of examples/mail, as config/ucspid.yaml has them


@pytest.fixture(scope="module")
def examples() -> Iterator[Daemon]:
    """Return a daemon with the services of the shipped file, on other ports and with mail of their own."""
    shipped = yaml.safe_load((ROOT / "config" / "ucspid.yaml").read_text())
    with public_folder() as folder:
        for service in shipped["services"].values():
            service["listen"] = "127.0.0.1:0"
        defaults = {
            **shipped["defaults"],
            "chdir": str(ROOT / "examples" / "mail"),
            "env": {"TMPDIR": str(folder)},
        }
        tls = {"certificates": str(certificates.shared() / "mail.example.org.pem")}
        config = {"tls": tls, "defaults": defaults, "services": shipped["services"]}
        with running(folder, config) as daemon:
            yield daemon


def test_mail_sent_by_smtp_and_qmtp_is_read_back_by_pop3(examples: Daemon) -> None:
    with smtplib.SMTP(*examples.address("smtp"), timeout=TIMEOUT) as client:
        assert client.sendmail(SENDER, ["you@localhost"], b"X-By: smtplib\r\n" + CRLF_TEXT) == {}
    run_swaks(examples, "you@localhost")
    (response,) = qmtp.send(examples.address("qmtp"), b"X-By: qmtp\n" + TEXT, SENDER, ["you@localhost"])
    assert response.startswith("K")

    received = poll(examples, "you", "secret")
    assert len(received) == 3
    assert sum(message.endswith(b"X-By: smtplib\n" + TEXT) for message in received) == 1
    assert sum(message.endswith(b"X-By: qmtp\n" + TEXT) for message in received) == 1
    assert sum(b"\n\nsent by swaks\n" in message for message in received) == 1
    assert all(message.startswith(b"Return-Path: <me@example.org>\n") for message in received)
    assert all(b"127.0.0.1" in message.partition(b"\n\n")[0] for message in received)
    assert poll(examples, "you", "secret") == []


def test_mail_sent_over_tls_is_read_back_over_tls(examples: Daemon) -> None:
    context = ssl.create_default_context(cafile=certificates.shared() / "ca.pem")
    context.check_hostname = False
    with smtplib.SMTP_SSL(*examples.address("smtps"), timeout=TIMEOUT, context=context) as client:
        assert client.sendmail(SENDER, ["you@localhost"], b"X-By: TLS\r\n" + CRLF_TEXT) == {}
    with contextlib.closing(
        poplib.POP3_SSL(*examples.address("pop3s"), timeout=TIMEOUT, context=context)
    ) as pop3:
        pop3.user("you")
        pop3.pass_("secret")
        (message,) = [pop3.retr(number)[1] for number in range(1, pop3.stat()[0] + 1)]
        assert b"X-By: TLS" in message
        pop3.dele(1)
        pop3.quit()


def test_swaks_and_curl_speak_tls_with_the_examples(examples: Daemon) -> None:
    curl = peers.require("curl")
    dialogue = run_swaks(examples, "you@localhost", "--tlsc", service="smtps")
    assert "=== TLS started with cipher TLSv1.3" in dialogue
    host, port = examples.address("pop3s")
    ca = str(certificates.shared() / "ca.pem")
    url = f"pop3s://mail.example.org:{port}/"
    command = [curl, "--silent", "--show-error", "--user", "you:secret", "--cacert", ca]
    command += ["--connect-to", f"mail.example.org:{port}:{host}:{port}"]

    def run(*options: str) -> str:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "sent by swaks" in run(url + "1")
    run("--head", "--request", "DELE 1", url)


def test_the_examples_refuse_strangers_and_other_peoples_mail(examples: Daemon) -> None:
    with pytest.raises(poplib.error_proto, match="-ERR"):
        poll(examples, "you", "guessed")
    with (
        smtplib.SMTP(*examples.address("smtp"), timeout=TIMEOUT) as client,
        pytest.raises(smtplib.SMTPRecipientsRefused),
    ):
        client.sendmail(SENDER, ["someone@example.org"], CRLF_TEXT)
    (response,) = qmtp.send(examples.address("qmtp"), TEXT, SENDER, ["someone@example.org"])
    assert response.startswith("D")
