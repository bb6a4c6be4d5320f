import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reachable import IN_MEMORY, reachable
from tcprulescheck import tcprulescheck
from tiers import examples
from ucspid.cli.explain import answer, rules_of
from ucspid.cli.explanation import ExplainedClient
from ucspid.cli.main import main
from ucspid.config.environment import DEFAULT_PATH
from ucspid.config.load import load
from ucspid.rules.tcprules import compile_text
from ucspid.tools.tcprulescheck import report

CONFIG = """\
services:
  smtp:
    listen: 0
    program: [/bin/sh, -c, "exit 0"]
    env: {TCPREMOTEIP: fixed, GREETING: mx}
    max_per_ip: 20
    rate_per_ip: 60/min
    exempt: [127.0.0.0/8]
    refuse_message: "421 later\\r\\n"
    lookup: {remote_host: yes, paranoid: yes, local_host: mx.example.org, timeout: 500ms}
    rules:
      - from: 192.0.2.0/24
        allow:
        env: {RELAYCLIENT: "", TCPREMOTEIP: 10.0.0.1}
        max_per_ip: 3
        rate_per_ip: 5/s
        burst: 9
        message: "421 three are enough\\r\\n"
      - {from: 2001:db8::/32, deny, message: "554 no\\r\\n"}
      - {from: .good.example, allow}
    default_action: deny
  open: {listen: 0, program: [sh]}
  text: {listen: 0, program: [sh], rules: rules.txt, default_action: deny}
  cdb: {listen: 0, program: [sh], rules: rules.cdb, env_dialect: tcp6}
  unit: {listen: 0, program: [sh], env_dialect: systemd, lookup: {local_host: yes, ident: yes}}
"""
RULES = (
    b'# relays\n192.0.2.:allow,RELAYCLIENT=""\n=a.example:deny\njoe@10.0.0.7:allow,ESC="\x1b[2J"\n=:allow\n'
)
AS = "user nobody (65534), group nogroup (65534), groups nogroup (65534)"

Explain = Callable[..., list[str]]


@pytest.fixture(scope="module")
def configured() -> Iterator[Path]:
    with reachable() as path:
        (path / "u.yaml").write_text(CONFIG)
        (path / "rules.txt").write_bytes(RULES)
        (path / "rules.cdb").write_bytes(compile_text(RULES, "rules"))
        yield path


@pytest.fixture
def explain(configured: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    def run(*arguments: str, code: int = 0) -> list[str]:
        assert main(["explain", "-c", str(configured / "u.yaml"), *arguments]) == code
        out, err = capsys.readouterr()
        assert (err if code == 0 else out) == ""
        return (out or err).replace(f"{configured}/", "").splitlines()

    return run


def of(label: str, lines: list[str]) -> list[str]:
    """Return what stands at a label, in further lines too."""
    found: list[str] = []
    here = ""
    for line in lines:
        here = line[:13].strip() or here
        if here == label:
            found.append(line[13:])
    return found


def test_what_a_handshake_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "u.yaml").write_text(
        "tls: {certificates: nobody-reads-it}\n"
        "services:\n"
        "  one:\n    listen: 0\n    program: [sh]\n"
        "    tls: {mode: implicit, client_certificates: require, client_ca: nor-this}\n"
        "    rules:\n    - {from: 'san:.example.org', deny}\n    - {from: 'sni:b', deny}\n"
        f"    - {{from: 'sha256:{'0' * 64}', deny}}\n"
        "  two: {listen: 0, program: [sh], tls: implicit}\n"
        "  three: {listen: 0, program: [sh]}\n"
    )

    def run(*arguments: str) -> list[str]:
        assert main(["explain", "-c", "u.yaml", *arguments, "192.0.2.7"]) == 0
        return capsys.readouterr().out.splitlines()

    lines = run("one", "--sni", "a", "--san", "x", "--san", "Joe.example.org")
    (client,), (rule,), decided = of("client", lines), of("rule", lines), of("decided by", lines)
    assert client == "192.0.2.7, asks for a, certificate for x, certificate for joe.example.org"
    assert rule.endswith("u.yaml:8")
    assert decided == ["address and names, if any"]
    assert of("verdict", run("one", "--sni", "B")) == of("verdict", run("one", "--sni", "b")) == ["deny"]
    assert of("verdict", run("one", "--sha256", ":".join(["00"] * 32))) == ["deny"]
    assert of("verdict", run("one", "--sni", "a")) == ["allow"]
    assert of("note", run("one", "--sni", "a", "--san", "x")) == []
    assert of("note", run("two", "--sni", "a", "--san", "x"))[0].startswith("tls.client_certificates is none")
    assert of("note", run("three", "--sni", "a"))[0].startswith("tls is not implicit")


def test_everything_about_a_client_that_a_rule_allows(explain: Explain) -> None:
    assert explain("smtp", "192.0.2.7", "--host", "a.example") == [
        "service      smtp",
        "client       192.0.2.7, name a.example",
        "rule         u.yaml:12",
        "verdict      allow",
        "decided by   the address alone, before any lookup",
        "names        looked up: remote_host (paranoid), within 0.5s",
        "max_per_ip   3 (of the rule)",
        "rate_per_ip  5 in 1s, 9 at once (of the rule)",
        'over limit   "421 three are enough\\r\\n"',
        "program      /bin/sh",
        "arguments    /bin/sh -c 'exit 0'",
        f"runs as      {AS if os.geteuid() == 0 else 'whoever starts the daemon'}",
        "directory    /",
        "environment  GREETING=mx",
        f"             PATH={DEFAULT_PATH}",
        "             PROTO=TCP",
        "             RELAYCLIENT=",
        "             TCPLOCALHOST=mx.example.org",
        "             TCPLOCALIP=?",
        "             TCPLOCALPORT=?",
        "             TCPREMOTEHOST=a.example",
        "             TCPREMOTEIP=10.0.0.1",
        "             TCPREMOTEPORT=?",
        "             UCSPID_CONN_ID=?",
    ]


def test_a_client_that_is_denied_gets_a_message_and_nothing_else(explain: Explain) -> None:
    assert explain("smtp", "2001:DB8::7")[1:] == [
        "client       2001:db8::7",
        "rule         u.yaml:19",
        "verdict      deny",
        "decided by   the address alone, before any lookup",
        "names        none looked up for this client, else remote_host (paranoid), within 0.5s",
        'message      "554 no\\r\\n"',
    ]


def test_a_client_that_no_rule_matches(explain: Explain) -> None:
    assert explain("smtp", "198.51.100.7")[2:] == [
        "rule         none matches: the service's default",
        "verdict      deny",
        "decided by   address and names, if any",
        "names        looked up: remote_host (paranoid), within 0.5s",
        "message      no message: the connection is closed",
    ]


def test_a_rule_that_says_nothing_of_limits_leaves_the_services(explain: Explain) -> None:
    lines = explain("smtp", "198.51.100.7", "--host", "mx.good.example")
    assert of("rule", lines) == ["u.yaml:20"]
    assert of("max_per_ip", lines) == ["20 (of the service)"]
    assert of("rate_per_ip", lines) == ["60 in 60s, 60 at once (of the service)"]
    assert of("over limit", lines) == ['"421 later\\r\\n"']


def test_a_client_that_is_exempt_has_no_limits(explain: Explain) -> None:
    lines = explain("smtp", "::ffff:127.0.0.1", "--host", "localhost.good.example")
    assert of("client", lines) == ["127.0.0.1, name localhost.good.example"]
    assert of("max_per_ip", lines) == of("rate_per_ip", lines) == ["none: the client is exempt"]


def test_a_service_without_rules_lets_everyone_in(explain: Explain) -> None:
    lines = explain("open", "198.51.100.7")
    assert of("verdict", lines) == ["allow"]
    assert of("rule", lines) == ["none matches: the service's default"]
    assert of("names", lines) == ["none looked up"]
    assert of("max_per_ip", lines) == of("rate_per_ip", lines) == ["no limit"]


@pytest.mark.parametrize(
    ("client", "rule", "verdict"),
    [
        (["192.0.2.7"], "2: 192.0.2.", "allow"),
        (["10.0.0.7", "--host", "a.example"], "3: =a.example", "deny"),
        (["10.0.0.7", "--host", "a.example", "--info", "joe"], "4: joe@10.0.0.7", "allow"),
        (["10.0.0.7", "--host", "b.example"], "5: =", "allow"),
    ],
)
def test_the_rule_of_a_tcprules_file_is_shown_with_its_key_and_line(
    explain: Explain, client: list[str], rule: str, verdict: str
) -> None:
    text = explain("text", *client)
    assert (of("rule", text), of("verdict", text)) == ([f"rules.txt:{rule}"], [verdict])
    compiled = explain("cdb", *client)
    key = rule.partition(" ")[2]
    assert (of("rule", compiled), of("verdict", compiled)) == ([f"rules.cdb: {key}"], [verdict])


def test_where_no_rule_of_a_file_matches_the_service_decides(explain: Explain) -> None:
    assert of("verdict", explain("text", "10.0.0.8")) == ["deny"]
    assert of("verdict", explain("cdb", "10.0.0.8")) == ["allow"]


def test_names_that_are_not_looked_up_are_shown_with_a_note(explain: Explain) -> None:
    lines = explain("text", "10.0.0.7", "--host", "b.example", "--info", "joe")
    assert of("note", lines) == [
        "lookup.remote_host is off: without it what --host says is never known, nor matched by a rule",
        "lookup.ident is off: without it what --info says is never known, nor matched by a rule",
    ]
    assert "TCPREMOTEHOST=b.example" in of("environment", lines)
    assert of("note", explain("text", "10.0.0.7")) == []


def test_what_is_not_printable_is_shown_as_an_escape(explain: Explain) -> None:
    lines = explain("text", "10.0.0.7", "--info", "joe", "--host", os.fsdecode(b"\x1b\xff\n"))
    assert of("client", lines) == ["10.0.0.7, name \\x1b\\xff\\n, ident user joe"]
    assert "ESC=\\x1b[2J" in of("environment", lines)


def test_every_dialect_of_the_environment(explain: Explain) -> None:
    shown = of("environment", explain("cdb", "2001:db8::7", "--host", "b.example"))
    assert {"PROTO=TCP6", "TCP6REMOTEIP=2001:db8::7", "TCPREMOTEIP=2001:db8::7", "TCP6LOCALPORT=?"} < set(
        shown
    )
    shown = of("environment", explain("unit", "192.0.2.7", "--info", ""))
    assert {"REMOTE_ADDR=192.0.2.7", "REMOTE_PORT=?", "TCPLOCALHOST=?", "TCPREMOTEINFO="} < set(shown)
    assert not [variable for variable in shown if variable.startswith("TCPREMOTEHOST")]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["pop3", "192.0.2.7"], "u.yaml: there is no service pop3, only smtp, open, text, cdb, unit"),
        (["smtp", "192.0.2"], "not an IP address: '192.0.2'"),
        (["smtp", "mx.example.org"], "not an IP address: 'mx.example.org'"),
        (
            ["smtp", "192.0.2.7", "--tcprulescheck"],
            "--tcprulescheck: the rules of smtp are not in a tcprules file",
        ),
    ],
)
def test_what_cannot_be_explained_exits_100(explain: Explain, arguments: list[str], problem: str) -> None:
    assert explain(*arguments, code=100) == [problem]


def test_a_wrong_file_is_not_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "u.yaml").write_text("services: {}\n")
    assert main(["explain", "-c", str(tmp_path / "u.yaml"), "smtp", "192.0.2.7"]) == 100
    assert capsys.readouterr().err == f"{tmp_path}/u.yaml:1:1: services: at least one is required\n"


# In the words of tcprulescheck


def checked(*arguments: str) -> bytes:
    """Return what ucspid explain --tcprulescheck prints."""
    with io.TextIOWrapper(io.BytesIO()) as out, contextlib.redirect_stdout(out):
        assert main(["explain", "--tcprulescheck", *arguments]) == 0
        out.flush()
        assert isinstance(out.buffer, io.BytesIO)
        return out.buffer.getvalue()


def test_the_words_of_tcprulescheck(configured: Path) -> None:
    config = ("-c", str(configured / "u.yaml"))
    relay = b"rule 192.0.2.:\nset environment variable RELAYCLIENT=\nallow connection\n"
    assert checked(*config, "text", "192.0.2.7") == checked(*config, "cdb", "192.0.2.7") == relay
    assert checked(*config, "text", "10.0.0.7", "--host", "a.example") == (
        b"rule =a.example:\ndeny connection\n"
    )
    assert checked(*config, "cdb", "10.0.0.8") == b"default:\nallow connection\n"
    assert checked(*config, "text", "10.0.0.8") == b"default:\ndeny connection\n"


IPS = ["1.2.3.4", "1.2.30.4", "10.2.3.4"]
HOSTS = ["a.b.c", "b.c", ".b.c", "A.b.c", "c", ""]
INFOS = ["u", "", "=", "-u"]
KEYS = [
    *("", "=", "=.c", "=.b.c", "=a.b.c", "=A.b.c", "1.", "1.2.", "1.2.3.", "1.2-40.", "10.2.3.4-9"),
    *IPS,
    *(f"{info}@{ip}" for info in INFOS for ip in IPS[:2]),
    *(f"{info}@={host}" for info in INFOS for host in HOSTS[:2]),
]
RULE = st.tuples(
    st.sampled_from(KEYS),
    st.sampled_from([":allow", ":deny"]),
    st.sampled_from(["", ',A="b"', ",A=/b c/,B=::", ',A="",A="c"']),
).map("".join)
CLIENT = st.builds(
    ExplainedClient,
    st.sampled_from(IPS),
    st.none() | st.sampled_from(HOSTS).map(str.encode),
    st.none() | st.sampled_from(INFOS).map(str.encode),
)


def texts(client: ExplainedClient) -> tuple[str, str | None, str | None]:
    host, info = (None if name is None else name.decode() for name in (client.host, client.info))
    return client.ip, host, info


@pytest.mark.skipif(
    shutil.which("tcprulescheck") is None, reason="tcprulescheck is not installed (Debian: ucspi-tcp)"
)
@settings(max_examples=examples(40), deadline=None)
@given(
    lines=st.lists(RULE, max_size=20, unique=True),
    clients=st.lists(CLIENT, min_size=6, max_size=6, unique=True),
)
def test_explain_and_tcprulescheck_agree(lines: list[str], clients: list[ExplainedClient]) -> None:
    with reachable(IN_MEMORY) as folder:
        text, cdb, config = folder / "rules", folder / "rules.cdb", folder / "u.yaml"
        text.write_text("\n".join(lines))
        assert main(["rules", "compile", str(text), str(cdb)]) == 0
        config.write_text(
            "services:\n"
            "  text: {listen: 0, program: [sh], rules: rules}\n"
            "  cdb: {listen: 0, program: [sh], rules: rules.cdb}\n"
        )
        services = [(service, rules_of(service)) for service in load(config).services]
        for client, expected in zip(clients, tcprulescheck(cdb, map(texts, clients)), strict=True):
            for service, rules in services:
                assert report(answer(service, rules, client)) == expected


def test_a_client_that_comes_by_a_balancer(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configured / "balanced.yaml"
    path.write_text(
        "services:\n  s: {listen: 0, program: [sh], proxy: {from: 10.0.0.0/8}}\n"
        "  direct: {listen: 0, program: [sh], proxy: {from: ['10.0.0.1', '10.0.0.2'], others: direct}}\n"
        "  none: {listen: 0, program: [sh]}\n"
    )

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["explain", "-c", str(path), *arguments])
        out, err = capsys.readouterr()
        return code, out + err

    code, text = run("--proxy", "10.0.0.9", "s", "192.0.2.7")
    assert code == 0
    assert "the client that 10.0.0.9 names in its header" in text
    assert {"UCSPID_PROXY_IP=10.0.0.9", "UCSPID_PROXY_PORT=?", "TCPREMOTEIP=192.0.2.7"} <= set(text.split())
    assert "10.0.0.1, 10.0.0.2; other peers are served as clients" in run("direct", "192.0.2.7")[1]
    assert "other peers are refused (not_proxied)" in run("s", "192.0.2.7")[1]
    for arguments, why in (
        (
            ("--proxy", "192.0.2.1", "s", "192.0.2.7"),
            "192.0.2.1 is not in proxy.from of s: such peers are refused",
        ),
        (("--proxy", "10.0.0.9", "direct", "192.0.2.7"), "such peers are served as clients themselves"),
        (("--proxy", "10.0.0.9", "none", "192.0.2.7"), "none has no balancers"),
        (("--proxy", "balancer", "s", "192.0.2.7"), "not an IP address"),
    ):
        code, text = run(*arguments)
        assert (code, why in text) == (100, True), text


def test_a_client_over_a_unix_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "u.yaml").write_text(
        "services:\n"
        "  s:\n    listen: unix:@s\n    program: [sh]\n    lookup: {remote_host: yes}\n"
        "    proxy: {from: ['unix:', 192.0.2.1], others: direct}\n"
        "    rules: [{from: 'gid:7', deny}, {from: 'uid:0', allow, env: {WHO: root}},\n"
        "      {from: 'unix:', deny}]\n"
        "  t: {listen: 0, program: [sh]}\n"
    )

    def run(*arguments: str, code: int = 0) -> list[str]:
        assert main(["explain", "-c", str(tmp_path / "u.yaml"), *arguments]) == code
        found = capsys.readouterr()
        return (found.out or found.err).splitlines()

    lines = run("s", "unix:uid=0")
    assert of("client", lines) == ["unix:uid=0, group id 0"]
    assert of("rule", lines) == [f"{tmp_path}/u.yaml:7"]
    assert of("names", lines) == ["none looked up: the client is a process of this host"]
    assert {"PROTO=UNIX", "UNIXREMOTEEUID=0", "UNIXREMOTEPID=?", "UNIXLOCALPATH=?", "WHO=root"} <= set(
        of("environment", lines)
    )
    assert not [line for line in of("environment", lines) if line.startswith("TCP")]
    assert of("verdict", run("s", "unix:uid=0,gid=7")) == ["deny"]
    assert of("verdict", run("s", "unix:uid=4000000000,gid=8")) == ["deny"]
    lines = run("s", "--proxy", "unix:", "198.51.100.7")
    assert of("proxy", lines) == ["the client that unix: names in its header"]
    assert not [line for line in of("environment", lines) if line.startswith("UCSPID_PROXY")]
    assert run("s", "unix:uid=4000000000", code=100) == [
        "user id 4000000000 is not in passwd(5): add its group, unix:uid=4000000000,gid=NUMBER"
    ]
    assert "unix:uid=NUMBER" in run("s", "unix:", code=100)[0]
    assert of("note", run("s", "192.0.2.7")) == ["the service listens on no port: no such client can connect"]
    assert of("note", run("t", "unix:uid=0")) == [
        "the service listens on no Unix socket: no such client can connect"
    ]
