"""The keys tls: what they make of themselves in a plan, and what is wrong with them and with certificates."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import certificates
from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.plan import CertificateFiles, Plan, Tls, TlsContext, TlsProcesses
from ucspid.tls.material import TlsMaterial, read

MAIL, CA, KEY = "mail.example.org.pem", "ca.pem", "mail.example.org.key"
MODE = f"mode: implicit, certificates: {MAIL}"
REQUIRED = f"mode: implicit, client_certificates: require, client_ca: {CA}"


@pytest.fixture(autouse=True)
def _beside_the_file(tmp_path: Path) -> None:
    for name in (MAIL, CA, KEY, "mail.example.org.crt"):
        (tmp_path / name).symlink_to(certificates.shared() / name)


def context(folder: Path, **settings: Any) -> TlsContext:
    """Return what a service with one certificate has, which is in a folder."""
    files = (CertificateFiles(path=str(folder / MAIL)),)
    return TlsContext(certificates=files, **settings)


def written(folder: Path, tls: str, top: str = "{}", more: str = "") -> Path:
    path = folder / "u.yaml"
    path.write_text(f"tls: {top}\nservices: {{s: {{listen: 0, program: [sh], {more}tls: {tls}}}}}\n")
    return path


def of_service(folder: Path, tls: str, top: str = "{}") -> Tls | None:
    return load(written(folder, tls, top)).services[0].tls


def mistakes(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(path)
    return [problem.removeprefix(f"{path}:") for problem in error.value.problems]


def material_of(path: Path) -> TlsMaterial:
    memory = os.memfd_create("material")
    try:
        load(path, memory)
        return read(memory)
    finally:
        os.close(memory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("min_version: 1.3", {"min_version": "1.3"}),
        ('min_version: "1.2"', {}),
        ("ciphers: ECDHE+AESGCM", {"ciphers": "ECDHE+AESGCM"}),
        ("alpn: imap", {"alpn": ("imap",)}),
        ("alpn: [h2, http/1.1]", {"alpn": ("h2", "http/1.1")}),
        ("sni: strict", {"sni": "strict"}),
        (
            "client_certificates: require, client_ca: /ca.pem",
            {"client_certificates": "require", "client_ca": "/ca.pem"},
        ),
        (
            "client_certificates: request, client_ca: /ca.pem",
            {"client_certificates": "request", "client_ca": "/ca.pem"},
        ),
    ],
)
def test_what_is_written_is_what_the_context_has(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    path = written(tmp_path, f"{{mode: starttls, certificates: {MAIL}, {text}}}")
    found = load(path, certificates=False).services[0].tls
    assert found == Tls(mode="starttls", context=context(tmp_path, **expected))


def test_what_is_of_the_service_alone(tmp_path: Path) -> None:
    text = f"{{{MODE}, handshake_timeout: 3s, max_handshakes: 7, env: ucspi-ssl}}"
    assert of_service(tmp_path, text) == Tls(
        mode="implicit",
        context=context(tmp_path),
        handshake_timeout=3.0,
        max_handshakes=7,
        env="ucspi-ssl",
    )


def test_the_mode_alone_takes_all_else_from_the_top_level(tmp_path: Path) -> None:
    top = f"{{certificates: {MAIL}, sni: strict, max_handshakes: 9}}"
    expected = Tls(mode="implicit", context=context(tmp_path, sni="strict"), max_handshakes=9)
    assert of_service(tmp_path, "implicit", top) == expected


def test_a_key_of_the_service_wins_one_by_one_even_with_the_usual_value(tmp_path: Path) -> None:
    top = f"{{certificates: {MAIL}, sni: strict, min_version: 1.3, ciphers: AES}}"
    found = of_service(tmp_path, "{mode: starttls, sni: default, ciphers: null}", top)
    assert found == Tls(mode="starttls", context=context(tmp_path, min_version="1.3"))


def test_services_without_the_key_have_no_tls_whatever_the_top_level_says(tmp_path: Path) -> None:
    path = tmp_path / "u.yaml"
    path.write_text(f"tls: {{certificates: {MAIL}}}\nservices: {{s: {{listen: 0, program: [sh]}}}}\n")
    plan = load(path)
    assert (plan.services[0].tls, plan.tls) == (None, None)
    assert material_of(path) == TlsMaterial(chains=(), contexts=())


def processes(folder: Path, top: str) -> TlsProcesses:
    found = load(written(folder, "implicit", f"{{certificates: {MAIL}, {top}}}")).tls
    assert found is not None
    return found


def test_how_many_processes_there_are(tmp_path: Path) -> None:
    assert processes(tmp_path, "processes: 7").count == 7
    assert processes(tmp_path, "").count == min(4, len(os.sched_getaffinity(0)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root switches users")
def test_as_whom_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucspid.config.tls.USER", "no-such-user")
    plan = load(written(tmp_path, "implicit", f"{{certificates: {MAIL}}}"))
    assert plan.tls is not None
    assert (plan.tls.uid, plan.tls.gid, plan.tls.groups) == (plan.uid, plan.gid, plan.groups)
    assert processes(tmp_path, "user: daemon").uid == 1
    assert processes(tmp_path, "group: daemon").gid == 1
    monkeypatch.setattr("ucspid.config.tls.USER", "daemon")
    assert processes(tmp_path, "").uid == 1
    (problem,) = mistakes(written(tmp_path, "implicit", f"{{certificates: {MAIL}, user: root}}"))
    assert problem.endswith("tls.user: what holds the keys and meets the network must not run as root")


def test_a_user_that_does_not_exist(tmp_path: Path) -> None:
    (problem,) = mistakes(written(tmp_path, "implicit", f"{{certificates: {MAIL}, user: no-such-user}}"))
    assert problem.endswith("tls.user: there is no user no-such-user")


def test_paths_are_relative_to_the_directory_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "live/fullchain.pem").symlink_to("../mail.example.org.crt")
    (tmp_path / "live/privkey.pem").symlink_to(f"../{KEY}")
    text = "[live, li*, {certificate: live/fullchain.pem, key: live/privkey.pem}]"
    found = of_service(tmp_path, f"{{mode: implicit, certificates: {text}}}")
    assert found is not None
    assert found.context.certificates == (
        CertificateFiles(path=f"{tmp_path}/live"),
        CertificateFiles(path=f"{tmp_path}/li*"),
        CertificateFiles(path=f"{tmp_path}/live/fullchain.pem", key=f"{tmp_path}/live/privkey.pem"),
    )
    material = material_of(tmp_path / "u.yaml")
    assert [chain.names for chain in material.chains] == [("mail.example.org",)]
    assert [context.chains for context in material.contexts] == [(0,)]


def test_services_with_the_same_share_a_context_and_certificates_are_there_once(tmp_path: Path) -> None:
    path = tmp_path / "u.yaml"
    path.write_text(
        f"tls: {{certificates: {MAIL}}}\n"
        "services:\n"
        "  a: {listen: 0, program: [sh], tls: implicit}\n"
        "  b: {listen: 0, program: [sh], tls: starttls}\n"
        f"  c: {{listen: 0, program: [sh], tls: {{{REQUIRED}}}}}\n"
    )
    material = material_of(path)
    assert len(material.chains) == 1
    assert [context.context.client_certificates for context in material.contexts] == ["none", "require"]
    assert [context.client_ca for context in material.contexts] == [None, (tmp_path / CA).read_text()]


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("yes", "2:47: services.s.tls: expected implicit, starttls, or a mapping, found the boolean yes"),
        ("tls", '2:47: services.s.tls: expected implicit, starttls, or a mapping, found the text "tls"'),
        ("[implicit]", "2:47: services.s.tls: expected implicit, starttls, or a mapping, found a list"),
        (f"{{certificates: {MAIL}}}", "2:42: services.s.tls.mode: required, but not given"),
        (f"{{mode: on, certificates: {MAIL}}}", "services.s.tls.mode: expected one of implicit, starttls"),
        ("implicit", "services.s.tls.certificates: required, here or in tls at the top level, but not given"),
        (
            "{mode: implicit, certificates: []}",
            "s.tls.certificates: expected a list of at least one item",
        ),
        ("{mode: implicit, certificates: {certificate: x}}", "tls.certificates.key: required, but not given"),
        (
            f"{{{MODE}, min_version: 1.1}}",
            "s.tls.min_version: expected 1.2 or 1.3, found the number 1.1",
        ),
        (f"{{{MODE}, ciphers: ECDHE+AESGCM:FOO}}", "services.s.tls.ciphers: there is no cipher FOO"),
        (
            f"{{{MODE}, ciphers: TLS_AES_128_GCM_SHA256}}",
            "tls.ciphers: there is no cipher TLS_AES_128_GCM_SHA256: those of TLS 1.3 cannot be chosen",
        ),
        (f'{{{MODE}, ciphers: "ECDHE:!ECDHE"}}', "services.s.tls.ciphers: no cipher is left"),
        (f'{{{MODE}, ciphers: "eNULL:@SECLEVEL=0"}}', "does not encrypt"),
        (f'{{{MODE}, ciphers: "aNULL:@SECLEVEL=0"}}', "goes without a certificate: append :!aNULL"),
        (f'{{{MODE}, alpn: ["a b"]}}', "services.s.tls.alpn[0]: expected the name of a protocol"),
        (f"{{{MODE}, alpn: {'a' * 256}}}", "services.s.tls.alpn: expected the name of a protocol"),
        (f"{{{MODE}, client_certificates: require}}", "tls.client_certificates: require needs client_ca"),
        (f"{{{MODE}, client_certificates: request}}", "tls.client_certificates: request needs client_ca"),
        (f"{{{MODE}, client_ca: {CA}}}", "tls.client_ca: needs client_certificates: request or require"),
        (
            f"{{{MODE}, client_certificates: require, client_ca: /does/not/exist}}",
            "tls.client_ca: /does/not/exist: No such file or directory",
        ),
        (
            f"{{{MODE}, client_certificates: require, client_ca: {KEY}}}",
            "mail.example.org.key: no certificate in it",
        ),
        (f"{{{MODE}, handshake_timeout: 0}}", "services.s.tls.handshake_timeout: expected a time"),
        (f"{{{MODE}, max_handshakes: 0}}", "services.s.tls.max_handshakes: expected a whole number"),
        (f"{{{MODE}, sni: none}}", "services.s.tls.sni: expected one of strict, default"),
        (f"{{{MODE}, env: apache}}", "services.s.tls.env: expected one of s6, ucspi-ssl"),
        (f"{{{MODE}, processes: 2}}", "services.s.tls.processes: unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, tls: str, expected: str) -> None:
    (problem,) = mistakes(written(tmp_path, tls))
    assert expected in problem


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ("{processes: 0}", "1:18: tls.processes: expected a whole number from 1 to 64, found the number 0"),
        ("{mode: implicit}", "1:7: tls.mode: unknown key"),
        ("null", "1:6: tls: expected a mapping, found nothing (null)"),
        ("{certificates: [/does/not/exist]}", "1:22: tls.certificates[0]: /does/not/exist: No such file"),
    ],
)
def test_what_is_wrong_at_the_top_level(tmp_path: Path, top: str, expected: str) -> None:
    (problem, *_) = mistakes(written(tmp_path, "implicit", top))
    assert problem.startswith(expected)


def test_a_certificate_of_the_top_level_that_is_wrong_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "u.yaml"
    path.write_text(
        "tls:\n  certificates: [/does/not/exist]\nservices:\n"
        "  a: {listen: 0, program: [sh], tls: implicit}\n"
        "  b: {listen: 0, program: [sh], tls: {mode: implicit, sni: strict}}\n"
    )
    assert mistakes(path) == ["2:18: tls.certificates[0]: /does/not/exist: No such file or directory"]


@pytest.mark.parametrize(
    ("more", "where"), [("banner: hello, ", "services.s.banner"), ("", "defaults.banner")]
)
def test_a_banner_would_be_sent_before_tls(tmp_path: Path, more: str, where: str) -> None:
    path = written(tmp_path, f"{{{MODE}}}", more=more)
    path.write_text("defaults: {banner: hello}\n" + path.read_text())
    (problem,) = mistakes(path)
    assert f"{where}: would be sent to clients of s before TLS begins: its tls is implicit" in problem
    path.write_text(path.read_text().replace("mode: implicit", "mode: starttls"))
    assert load(path).services[0].banner == "hello"


IMPLICIT = f"mode: implicit, certificates: {MAIL}"
OF_CLIENTS = f"{IMPLICIT}, client_certificates: request, client_ca: {CA}"


@pytest.mark.parametrize(
    ("tls", "pattern", "expected"),
    [
        ("null", "sni:a", "what a handshake shows matches no client: service s needs tls: implicit for it"),
        ("null", "san:a", "what a handshake shows matches no client: service s needs tls: implicit for it"),
        (f"{{mode: starttls, certificates: {MAIL}}}", "sni:a", "service s needs tls: implicit for it"),
        (
            f"{{{IMPLICIT}}}",
            "san:a",
            "a certificate matches no client: service s needs tls.client_certificates: request or",
        ),
        (f"{{{IMPLICIT}}}", f"sha256:{'0' * 64}", "needs tls.client_certificates: request or require for it"),
        (f"{{{IMPLICIT}}}", "sni:*", "neither a host name nor a .domain after sni:"),
        (f"{{{OF_CLIENTS}}}", "san:", "a name in a certificate has 1 to 253 characters, all of them ASCII"),
        (f"{{{OF_CLIENTS}}}", "sha256:00", "the fingerprint of a certificate has 64 hexadecimal digits"),
    ],
)
def test_rules_about_handshakes_that_match_nobody(
    tmp_path: Path, tls: str, pattern: str, expected: str
) -> None:
    (problem,) = mistakes(written(tmp_path, tls, more=f'rules: [{{from: "{pattern}", deny}}], '))
    assert expected in problem
    assert "services.s.rules[0].from" in problem


@pytest.mark.parametrize("pattern", ["sni:a", "san:joe@example.org", f"sha256:{'aB:' * 31}00"])
def test_rules_about_handshakes(tmp_path: Path, pattern: str) -> None:
    path = written(tmp_path, f"{{{OF_CLIENTS}}}", more=f'rules: [{{from: "{pattern}", deny}}], ')
    rules = load(path).services[0].rules
    assert isinstance(rules, tuple)
    assert rules[0].from_ == (pattern,)


def test_certificates_are_not_read_for_whoever_may_not(tmp_path: Path) -> None:
    path = written(tmp_path, "{mode: implicit, certificates: /does/not/exist}")
    assert isinstance(load(path, certificates=False), Plan)


def loaded_modules(arguments: Sequence[str]) -> set[str]:
    script = (
        "import sys; from ucspid.config.__main__ import main; "
        "main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in ran.stderr.split()}


def test_a_file_without_tls_costs_no_library(tmp_path: Path) -> None:
    path = tmp_path / "u.yaml"
    path.write_text("services: {s: {listen: 0, program: [sh]}}\n")
    assert loaded_modules([str(path)]) & {"cryptography", "ssl"} == set()
    assert "cryptography" in loaded_modules([str(written(tmp_path, f"{{{MODE}}}"))])
