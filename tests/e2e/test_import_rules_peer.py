"""Access rules of other servers beside the tools that these have for them."""

import subprocess
from pathlib import Path

import peers
from ucspid.importers.collect import import_paths
from ucspid.importers.description import Imported
from ucspid.importers.host import Host
from ucspid.plan import RuleSpec
from ucspid.rules.networks import YamlRules
from ucspid.rules.rule import Rule

CLIENTS = [f"127.0.{net}.{host}" for net in range(6) for host in (1, 7, 130)] + ["10.0.0.1", "2001:db8::1"]


def rules_of(service: Imported) -> YamlRules:
    """Return the rules of an imported service as the daemon would have them."""
    specs = [
        RuleSpec(
            from_=tuple(rule.patterns or ["*"]),
            verdict="allow" if rule.allow else "deny",
            env=tuple(rule.env.items()),
            max_per_ip=rule.max_per_ip,
            rate_per_ip=None,
            message=rule.message,
            where=str(number),
        )
        for number, rule in enumerate(service.settings.get("rules", []))
    ]
    return YamlRules(specs, service.settings.get("default_action", "allow"))


def answers(service: Imported) -> dict[str, tuple[str, dict[bytes, bytes]]]:
    def answer(rule: Rule) -> tuple[str, dict[bytes, bytes]]:
        return rule.verdict, dict(rule.env)

    rules = rules_of(service)
    return {client: answer(rules.match(client)) for client in CLIENTS}


# hosts.allow and hosts.deny

ALLOW = """\
ALL EXCEPT in.telnetd: 127.0.1. 127.0.2.0/255.255.255.128 : allow
in.ftpd: 127. EXCEPT 127.0.3.
in.telnetd: [2001:db8::]/32, \\
    127.0.5.7 : setenv WHO \\
    someone
in.ftpd: 127.0.3.7: deny
"""
DENY = """\
# Not these
ALL: 127.0.4.0/24 EXCEPT 127.0.4.7
in.fingerd: ALL EXCEPT 127.0.0.0/255.255.0.0 EXCEPT 127.0.5.
in.telnetd: ALL
"""
DAEMONS = {"ftp": "in.ftpd", "finger": "in.fingerd", "telnet": "in.telnetd"}


def test_hosts_allow_and_deny_are_those_of_tcpdmatch(tmp_path: Path) -> None:
    (tmp_path / "hosts.allow").write_text(ALLOW)
    (tmp_path / "hosts.deny").write_text(DENY)
    lines = [f"{name} stream tcp nowait root /bin/cat {daemon}\n" for name, daemon in DAEMONS.items()]
    (tmp_path / "inetd.conf").write_text("".join(lines))
    paths = [str(tmp_path / name) for name in ("inetd.conf", "hosts.deny", "hosts.allow")]
    _, description = import_paths(paths, Host())
    assert list(description.all_notes()) == []
    assert [service.daemon for service in description.services] == list(DAEMONS.values())
    for service in description.services:
        ours = {client: verdict for client, (verdict, _) in answers(service).items() if ":" not in client}
        assert ours == {client: tcpdmatch(tmp_path, str(service.daemon), client) for client in ours}


def tcpdmatch(folder: Path, daemon: str, client: str) -> str:
    command = [peers.require("tcpdmatch"), "-d", "-i", "inetd.conf", daemon, client]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout
    (verdict,) = (line.split()[1] for line in said.splitlines() if line.startswith("access:"))
    return {"granted": "allow", "denied": "deny"}[verdict]


# s6's rules and ipsvd's instructions: the compiled form says what the directory says


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def both(tmp_path: Path, compile_: list[str]) -> tuple[Imported, Imported]:
    """Return what is imported of a directory, and of the cdb that a tool makes of it."""
    subprocess.run(compile_, cwd=tmp_path, check=True, timeout=10)
    found = []
    for name in ("rules", "rules.cdb"):
        _, description = import_paths([str(tmp_path / name)], Host())
        found += description.services
    assert answers(found[0]) == answers(found[1])
    return found[0], found[1]


def test_s6_rules_compiled_and_not(tmp_path: Path) -> None:
    write(
        tmp_path / "rules",
        {
            "ip4/127.0.1.0_24/deny": "",
            "ip4/127.0.2.7_32/allow": "",
            "ip4/127.0.2.7_32/env/RELAYCLIENT": "",
            "ip4/127.0.2.7_32/env/NOTE": "a b\nmore\n",
            "ip4/127.0.0.0_16/allow": "",
            "ip4/127.0.3.0_24/env/NOTE": "neither allow nor deny: not a rule",
            "ip4/127.0.4.0_24/allow": "",
            "ip4/127.0.4.0_24/exec": "echo no",
            "ip6/2001:db8::_32/allow": "",
            "reversedns/example.org/allow": "",
            "reversedns/@/deny": "",
        },
    )
    tool = peers.require("s6-accessrules-cdb-from-fs")
    service, _ = both(tmp_path, [tool, "rules.cdb", "rules"])
    said = answers(service)
    assert said["127.0.2.7"] == ("allow", {b"NOTE": b"a b"})
    assert [client for client, (verdict, _) in said.items() if verdict == "deny"] == [
        "127.0.1.1", "127.0.1.7", "127.0.1.130", "127.0.4.1", "127.0.4.7", "127.0.4.130", "10.0.0.1"
    ]  # fmt: skip
    rules = rules_of(service)
    assert rules.match("10.0.0.1", b"mx.example.org").verdict == "allow"
    assert rules.match("10.0.0.1", b"example.net").verdict == "deny"


def test_ipsvd_instructions_compiled_and_not(tmp_path: Path) -> None:
    write(
        tmp_path / "rules",
        {
            "127.0.1": "",
            "127.0.2.7": "+RELAYCLIENT=\n# a comment\n+NOTE=a b\nC5:too many\\r\\n",
            "127.0.2": "+X=y",
            "127.0.3": "=dyn.example.org",
            "127.0.4": "echo no",
            "127": "",
            "example.org": "+Y=z",
            "0": "",
        },
    )
    (tmp_path / "rules" / "127.0.1").chmod(0o000)
    (tmp_path / "rules" / "127.0.4").chmod(0o700)
    (tmp_path / "rules" / "0").chmod(0o000)
    service, _ = both(tmp_path, [peers.require("ipsvd-cdb"), "rules.cdb", "rules.tmp", "rules"])
    said = answers(service)
    assert said["127.0.2.7"] == ("allow", {b"RELAYCLIENT": b"", b"NOTE": b"a b"})
    assert said["127.0.2.1"] == ("allow", {b"X": b"y"})
    assert {client.rpartition(".")[0] for client, (verdict, _) in said.items() if verdict == "deny"} == {
        "127.0.1", "127.0.3", "127.0.4", "10.0.0", ""
    }  # fmt: skip
    rule = rules_of(service).match("127.0.2.7")
    assert (rule.max_per_ip, rule.message) == (5, "too many\r\n")
    assert rules_of(service).match("10.0.0.1", b"mx.example.org").env == ((b"Y", b"z"),)
