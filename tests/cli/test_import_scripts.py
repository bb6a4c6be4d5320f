"""run scripts: what their commands become, what is not known without running them, and garbage."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tiers import examples
from ucspid.errors import ConfigError
from ucspid.importers.collect import import_paths
from ucspid.importers.host import Host

SERVER = "tcpserver -HRl0 127.0.0.1 7301 cat"
SH = "#!/bin/sh\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Another host's root directory, with a user qmaild and the program cat."""
    for folder in ("etc", "bin", "control", "service/it/env"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nqmaild:x:64:65::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nnofiles:x:65:\nmail:x:8:\n")
    (tmp_path / "etc/services").write_text("smtp 25/tcp mail\n")
    (tmp_path / "etc/hostname").write_text("old.example.org\n")
    (tmp_path / "bin/cat").touch(mode=0o755)
    (tmp_path / "control/number").write_text("33\n")
    (tmp_path / "service/it/env/NAME").write_text("value\n")
    return tmp_path


def imported(root: Path, text: str) -> tuple[dict[str, Any] | None, list[str], str]:
    """Return the settings of the service of a script, None if there is none, what was noted, and the text."""
    (root / "service/it/run").write_text(text)
    written, description = import_paths(["/service/it/run"], Host(str(root)))
    notes = [note.what for note in description.all_notes()]
    if written is None:
        return None, notes, ""
    (service,) = yaml.load(written, yaml.BaseLoader)["services"].values()
    return service, notes, written


@pytest.mark.parametrize(
    ("command", "settings_"),
    [
        (SERVER, {"listen": "127.0.0.1:7301", "program": ["cat"], "user": "root",
            "lookup": {"local_host": "0"}}),
        ("s6-ipcserver -a 0600 -c 5 -C2 -b 9 -u 64 -g 65 -- /run/s s6-ipcserver-access -l x cat", {
            "listen": {"address": "unix:/run/s", "mode": "0600"}, "max_connections": "5", "max_per_ip": "2",
            "backlog": "9", "user": "qmaild", "program": ["cat"]}),
        ("s6-ipcserver //run/./a/..//s cat", {"listen": {"address": "unix:/run/s", "mode": "0777"}}),
        ("s6-ipcserver s cat", {"listen": {"address": "unix:/service/it/s", "mode": "0777"},
            "max_per_ip": "40"}),
        ("tcpserver 0 mail cat", {"listen": "0.0.0.0:25", "lookup": {
            "local_host": "yes", "remote_host": "yes", "ident": "yes", "timeout": "26s"}}),
        ("tcpserver -phRt5 :0 smtp cat", {"listen": "25", "lookup": {
            "local_host": "yes", "remote_host": "yes", "paranoid": "yes"}}),
        ("tcpserver -u 64 -g 65 -c3 -b5 -D 0 25 cat", {"user": "qmaild", "group": "nofiles", "groups": [],
            "max_connections": "3", "backlog": "5", "nodelay": "yes"}),
        ("tcpserver -u 64 0 25 cat", {"user": "qmaild", "group": "root", "groups": []}),
        ("envuidgid qmaild tcpserver -U 0 25 cat", {"user": "qmaild", "group": "nofiles", "groups": [],
            "env": {"UID": "64", "GID": "65"}}),
        ("setuidgid qmaild softlimit -a 100000000 " + SERVER, {"user": "qmaild", "groups": [],
            "rlimits": {"as": "100000000"}}),
        ("softlimit -a 1000 " + SERVER, {"program": ["/usr/bin/prlimit", "--as=1000", "cat"]}),
        ("chpst -u qmaild:mail -n -3 -e ./env -/ /jail " + SERVER, {"user": "qmaild", "group": "mail",
            "groups": [], "nice": "-3", "env": {"NAME": "value"}, "chroot": "/jail"}),
        ("tcpsvd -c5 -C '2:no\\r\\n' -u qmaild -hp 127.0.0.1 7301 cat", {"max_connections": "5",
            "max_per_ip": "2", "refuse_message": "no\r\n", "user": "qmaild",
            "lookup": {"local_host": "yes", "remote_host": "yes", "paranoid": "yes"}}),
        ("s6-tcpserver -c 5 -C 3 -u 64 -g 65 -G 8 ::1 25 s6-tcpserver-access -H -l me -t 2000 cat", {
            "listen": "[::1]:25", "max_connections": "5", "max_per_ip": "3", "ipv6_prefix": "128",
            "user": "qmaild", "group": "nofiles", "groups": ["8"], "lookup": {"local_host": "me",
            "timeout": "2000ms"}}),
        ("tcpserver -HRl0 0 25 ./cat", {"program": ["./cat"], "chdir": "/service/it"}),
        ("env -i A=b PATH=/bin " + SERVER, {"env": {"A": "b", "PATH": "/bin"}}),
        ("tcpserver -B hi -X -x rules.cdb 0 25 cat", {"banner": "hi", "rules": "/service/it/rules.cdb",
            "unusable_rules": "allow_missing"}),
        ("tcpserver --max-per-ip 3 --rate 5/s 0 25 cat", {"max_per_ip": "3", "rate": "5/s"}),
        ("env - PATH=/bin " + SERVER, {"env": {"PATH": "/bin"}}),
        ("setlock -n lock nice -n5 pgrphack " + SERVER, {"nice": "5"}),
    ],
)  # fmt: skip
def test_commands_become_settings(root: Path, command: str, settings_: dict[str, Any]) -> None:
    (root / "service/it/cat").touch(mode=0o755)
    service, notes, _ = imported(root, f"{SH}exec {command}\n")
    assert notes == []
    assert service is not None
    assert {key: service.get(key) for key in settings_} == settings_


@pytest.mark.parametrize(
    ("lines", "program"),
    [
        ("A=x; B='y z'; export B", "cat $A \"$B\" $B '$A' \\$A"),
        ("A=`cat /control/number` B=$(id -g qmaild)", 'cat "$A"-$B'),
        ('A=$(</control/number)\nB="$(head -n 1 /control/number)"', "cat $A$B"),
        ("A=`hostname`", "cat $A"),
        ("", "cat ${A:-x y} ${B-z}"),
        ("PATH=/service/it:$PATH; export PATH", "here a"),
        ("A='a  b'", 'cat x$A"$A"'),
        ('A=1\nif [ "$A" ]; then echo A; exit 1; fi', "cat $A"),
        ("[ -f /x ] || exit 1", "cat a"),
        ("cat <<EOF\nthis is no command\nEOF\n:", "cat a"),
    ],
)
def test_words_are_those_of_the_shell(root: Path, lines: str, program: str) -> None:
    expected = {
        "cat $A \"$B\" $B '$A' \\$A": ["cat", "x", "y z", "y", "z", "$A", "$A"],
        'cat "$A"-$B': ["cat", "33-65"],
        "cat $A$B": ["cat", "3333"],
        "cat ${A:-x y} ${B-z}": ["cat", "x", "y", "z"],
        'cat x$A"$A"': ["cat", "xa", "ba  b"],
        "cat a": ["cat", "a"],
        "here a": ["here", "a"],
    }
    (root / "service/it/here").touch(mode=0o755)
    service, notes, _ = imported(root, f"{SH}{lines}\nexec tcpserver -HRl0 \\\n 127.0.0.1 7301 {program}\n")
    assert service is not None, notes
    if program == "cat $A":
        assert service["program"][1] in {"1", "old.example.org"}
    else:
        assert service["program"] == expected[program]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"A=`date`\nexec {SERVER} $A", "$A, which is `date`, is not known without running the script"),
        (f"exec {SERVER} $1", "$1 is not known without running the script"),
        (f"exec {SERVER} $((1+1))", "$((1+1)) is not known without running the script"),
        (f"exec {SERVER} /tmp/*", "/tmp/* is not known without running the script"),
        (f"for A in 1 2; do A=$A; done\nexec {SERVER} $A", "the for is not carried out"),
        ("exec setuidgid nosuch " + SERVER, "there is no user nosuch"),
        ("exec tcpserver -x /none.cdb 0 25 cat", "there is no /none.cdb: all clients were dropped"),
        ("exec tcpserver 0 25 nosuch", "there is no program nosuch in /usr/local/sbin:/usr/local/bin:"),
        ("exec tcpserver -c 0 0 25 cat", "with -c 0 it accepts nobody"),
        ("exec tcpserver -Z 0 25 cat", "tcpserver: illegal option -- Z"),
        ("exec tcpserver 0", "there is no port"),
        ("exec tcpserver no.host 25 cat", "no.host is a name, not an address"),
        ("exec sslserver 0 25 cat", "sslserver speaks TLS, which ucspid does not"),
        ("exec s6-ipcserver", "there is no path"),
        (
            "exec s6-ipcserver /run/s s6-ipcserver-access -i rules cat",
            "rules of s6-ipcserver-access are not read",
        ),
        ("exec unixserver /run/s cat", "its options for a Unix socket are not read"),
        ("exec s6-tlsserver 0 25 cat", "s6-tlsserver speaks TLS"),
        ("exec multilog t ./main", "it starts no server that ucspid import knows"),
    ],
)
def test_what_is_not_known_is_no_service(root: Path, text: str, what: str) -> None:
    service, notes, _ = imported(root, f"{SH}{text}\n")
    assert service is None
    assert any(note.startswith(what) for note in notes), notes


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("mkdir -p /run/x", "mkdir was run before the server started"),
        (". /etc/rc.conf", ". /etc/rc.conf: another script is not read"),
        ("while true; do break; done", "the while is not carried out"),
        ("if true; then mkdir /x; fi", "the if is not carried out"),
        ("ulimit -x 5", "ulimit -x 5 has no equivalent"),
    ],
)
def test_what_is_lost_is_noted(root: Path, line: str, what: str) -> None:
    service, notes, written = imported(root, f"{SH}{line}\nexec {SERVER}\n")
    assert service is not None
    assert notes == [what]
    assert f"run:2: {what}" in written.replace("\n  #   ", " ")


def test_what_the_shell_sets(root: Path) -> None:
    text = f"{SH}# First\numask 027\ncd /control\nulimit -n 99\nexec 2>&1\n{SERVER} | splogger smtp &\n"
    service, notes, written = imported(root, text)
    assert notes == []
    assert service is not None
    assert (service["umask"], service["chdir"], service["rlimits"]) == ("027", "/control", {"nofile": "99"})
    assert "  # First\n" in written


def test_a_script_that_starts_several_servers(root: Path) -> None:
    (root / "rc").write_text(f"{SH}{SERVER} &\n# Second\ntcpserver -HRl0 127.0.0.1 7302 cat &\n")
    written, _ = import_paths(["/rc"], Host(str(root)))
    assert written is not None
    services = yaml.safe_load(written)["services"]
    assert [service["listen"] for service in services.values()] == ["127.0.0.1:7301", "127.0.0.1:7302"]


def test_a_directory_of_services(root: Path) -> None:
    for name, port in (("one", 7301), ("two", 7302)):
        (root / "service" / name).mkdir()
        (root / "service" / name / "run").write_text(f"{SH}exec tcpserver -HRl0 0 {port} cat\n")
    written, _ = import_paths(["/service"], Host(str(root)))
    assert written is not None
    assert list(yaml.safe_load(written)["services"]) == ["one", "two"]


EXECLINE = """\
#!/command/execlineb -P
# What it is
fdmove -c 2 1
s6-envdir env
backtick -n -i MAX { cat /control/number }
multisubstitute { importas MAX MAX define PORT 7301 }
export A "b \\"c"
cd /control
umask 027
s6-softlimit -o 100
s6-setuidgid qmaild
s6-tcpserver -c ${MAX} 127.0.0.1 ${PORT}
cat { } \\# "a #b"
"""


def test_execline(root: Path) -> None:
    service, notes, written = imported(root, EXECLINE)
    assert notes == []
    assert service is not None
    assert service["listen"] == "127.0.0.1:7301"
    assert service["program"] == ["cat", "{", "}", "#", "a #b"]
    assert service["env"] == {"NAME": "value", "MAX": "33", "A": 'b "c'}
    assert (service["umask"], service["chdir"], service["user"]) == ("027", "/control", "qmaild")
    assert (service["max_connections"], service["max_per_ip"]) == ("33", "40")
    assert "  # What it is\n" in written


def test_what_execline_does_with_blocks_is_noted(root: Path) -> None:
    service, notes, _ = imported(
        root, f"#!/bin/execlineb\nif {{ test -f x }}\nforeground {{ mkdir a }} {SERVER}\n"
    )
    assert service is not None
    assert notes == ["if is not carried out", "foreground is not carried out"]


def test_values_do_not_grow_without_end(root: Path) -> None:
    doubled = "A=$A$A\n" * 40
    with pytest.raises(ConfigError, match="A gets longer than 65536 characters"):
        imported(root, f"{SH}A=0123456789\n{doubled}exec {SERVER} $A\n")
    with pytest.raises(ConfigError, match="substitutions inside each other"):
        imported(root, f"{SH}A={'$(echo ' * 40}x{')' * 40}\nexec {SERVER} $A\n")


def test_a_script_is_not_too_long(root: Path) -> None:
    with pytest.raises(ConfigError, match="run: larger than 131072 bytes"):
        imported(root, SH + "a\n" * 70000)
    service, _, _ = imported(root, f"{SH}: <<EOF\n{'x' * 60000}\nEOF\nexec {SERVER}\n")
    assert service is not None


@pytest.mark.parametrize("text", ["echo 'x", 'echo "x', "A=`x", "A=$(x"])
def test_quotes_without_an_end_are_an_error_with_its_line(root: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"run:2: .* without its"):
        imported(root, f"{SH}{text}\n")


PIECE = st.sampled_from(
    ["tcpserver ", "exec ", "envdir ", "-x ", "0 ", "25 ", "cat ", "$A", "${A:-b}", "A=1 ", "`id -u root`",
     "$(cat /control/number)", "'", '"', "\\", "\n", ";", "&&", "|", "{ ", "} ", "( ", ")", "if ", "then ",
     "fi ", "done ", "<<EOF", "2>&1 ", "# x", "é", "\udcff", "*", "chpst ", "-u qmaild ", "s6-tcpserver ",
     "importas ", "backtick ", "export ", "ulimit -n ", "cd "]
)  # fmt: skip


@settings(max_examples=examples(100), deadline=None)
@given(pieces=st.lists(PIECE, max_size=25), shell=st.sampled_from([SH, "#!/bin/execlineb -P\n"]))
def test_any_script_is_imported_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], shell: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "run"
    path.write_bytes(f"{shell}{''.join(pieces)}\n".encode("utf-8", "surrogateescape"))
    services: set[str] | None = None
    try:
        written, description = import_paths([str(path)], Host())
    except ConfigError as error:
        problems = error.problems
    else:
        problems = []
        services = set(yaml.load(written, yaml.BaseLoader)["services"]) if written else set()
        assert services == {service.name for service in description.running()}
    assert services is not None or problems
    assert [problem for problem in problems if not problem.startswith(f"{path}:")] == []
