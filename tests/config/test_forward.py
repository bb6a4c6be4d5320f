"""The key forward: what it makes of itself in a plan, and what is wrong with it."""

import sys
from pathlib import Path

import pytest

from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.forward.main import ForwardSettings
from ucspid.forward.targets import Destination
from ucspid.plan import Preloaded, Service


def read(folder: Path, forward: str, more: str = "") -> Service:
    path = folder / "u.yaml"
    path.write_text(f"services: {{s: {{listen: 0, forward: {forward}{more}}}}}\n")
    return load(str(path)).services[0]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("mail1.example:143", ("off", "5", "1800", "mail1.example:143")),
        ("'[2001:DB8::1]:143'", ("off", "5", "1800", "[2001:db8::1]:143")),
        ("unix:/run/dovecot/imap", ("off", "5", "1800", "unix:/run/dovecot/imap")),
        ("unix:@imap", ("off", "5", "1800", "unix:@imap")),
        ("{to: mail1.example:smtp, proxy: off}", ("off", "5", "1800", "mail1.example:25")),
        (
            "{to: [a:1, 192.0.2.7:143], proxy: v2, connect_timeout: 500ms, idle_timeout: 30d}",
            ("v2", "0.5", "2592000", "a:1", "192.0.2.7:143"),
        ),
        ("{to: [a_b.example.:1], proxy: v1}", ("v1", "5", "1800", "a_b.example.:1")),
    ],
)
def test_what_is_written_are_the_arguments(tmp_path: Path, text: str, arguments: tuple[str, ...]) -> None:
    service = read(tmp_path, text)
    assert service.argv == ("ucspid-forward", *arguments)
    assert service.preloaded == Preloaded(module="ucspid.forward.main:run", own=True)
    assert service.executable == sys.executable


def test_the_program_reads_its_arguments(tmp_path: Path) -> None:
    text = "{to: [a:1, '[::1]:2', 'unix:/x'], proxy: v2, connect_timeout: 500ms, idle_timeout: 1h}"
    targets = (Destination("a", 1), Destination("::1", 2), Destination("/x", 0))
    assert ForwardSettings.of(read(tmp_path, text).argv) == ForwardSettings("v2", 0.5, 3600.0, targets)


def problems(folder: Path, forward: str, more: str = "") -> list[str]:
    with pytest.raises(ConfigError) as error:
        read(folder, forward, more)
    return [line.partition(" ")[2] for line in error.value.problems]


EXPECTED = 'expected host:port, address:port, "[v6 address]:port", or unix: and a whole path'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "services.s.forward.to: required, but not given"),
        ("{to: []}", "services.s.forward.to: expected a list of at least one item"),
        (
            "{to: [" + ", ".join(["a:1"] * 33) + "]}",
            "services.s.forward.to: 33 items, at most 32 are allowed",
        ),
        ("mail1.example", "services.s.forward: mail1.example has no port: write mail1.example:25"),
        ("mail1.example:0", "services.s.forward: port 0 is nobody's: write the server's"),
        ("mail1.example:65536", "services.s.forward: 65536 is not a port"),
        ("mail1.example:no-such", 'services.s.forward: "no-such" is neither a port nor a TCP service'),
        ("143", f"services.s.forward: {EXPECTED}"),
        ("2001:db8::1:143", f"services.s.forward: {EXPECTED}"),
        ("'[2001:db8::1]'", f"services.s.forward: {EXPECTED}"),
        ("'[192.0.2.1]:25'", f"services.s.forward: {EXPECTED}"),
        ("192.0.2.256:25", f"services.s.forward: {EXPECTED}"),
        ("192.0.2:25", f"services.s.forward: {EXPECTED}"),
        ("-x.example:25", f"services.s.forward: {EXPECTED}"),
        ("'a b:25'", f"services.s.forward: {EXPECTED}"),
        ("'unix:@'", f"services.s.forward: {EXPECTED}"),
        ("unix:run", f"services.s.forward: {EXPECTED}"),
        (f"unix:/{'x' * 107}", "services.s.forward: a socket's path may have at most 107 bytes"),
        ("{to: [a:1, b]}", "services.s.forward.to[1]: b has no port: write b:25"),
        ("{to: a:1, proxy: v3}", "services.s.forward.proxy: expected v1, v2 or off"),
        ("{to: a:1, proxy: 2}", "services.s.forward.proxy: expected v1, v2 or off"),
        ("{to: a:1, connect_timeout: 2min}", "services.s.forward.connect_timeout: expected a time"),
        ("{to: a:1, idle_timeout: 0}", "services.s.forward.idle_timeout: expected a time"),
        ("{to: a:1, timeout: 1s}", "services.s.forward.timeout: unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    found = problems(tmp_path, text)
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (
            ", program: [/bin/sh]",
            "services.s: exactly one of program, python, module and forward is required",
        ),
        (", args: [x]", "services.s.args: needs python or module"),
        (", watch: true", "services.s.watch: needs python or module"),
        (", argv0: x", "services.s.argv0: needs program"),
        (", stderr: client", "services.s.stderr: client would get the report of forward"),
        (", tls: starttls", "services.s.tls: starttls takes a program that asks for it"),
        (", chdir: /none", "services.s.chdir: cannot be set as"),
    ],
)
def test_what_does_not_go_with_it_is_said(tmp_path: Path, more: str, problem: str) -> None:
    found = problems(tmp_path, "a:1", more)
    assert any(line.startswith(problem) for line in found), found


def test_null_is_no_server(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "null")
    assert problem == "services.s: exactly one of program, python, module and forward is required"
