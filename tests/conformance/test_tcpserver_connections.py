"""What a program gets of tcpserver, and what is said of its connection: the same of Debian's and of ours."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import receive_all
from folders import public_folder
from free_ports import free_port
from tcpservers import BOTH, LOOPBACK, QUICK, TIMEOUT, Which, compiled, normal, serving

both = pytest.mark.parametrize("which", BOTH, ids=lambda which: which.name)
PRINT_ENVIRONMENT = ("env", "-0")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can enter: without -u, nobody is who reads the rules."""
    with public_folder() as folder:
        yield folder


CONNECTION = [
    "tcpserver: status: 1/40",
    "tcpserver: pid P1 from 127.0.0.1",
    "tcpserver: ok P1 0:127.0.0.1:PORT :127.0.0.1::N",
    "tcpserver: end P1 status 0",
    "tcpserver: status: 0/40",
]


@both
def test_a_connection_is_said_line_by_line(which: Which) -> None:
    with serving(which, "-v", *QUICK) as server:
        assert server.wait_lines(1) == [b"tcpserver: status: 0/40\n"]
        assert server.talk(b"hello") == b"hello"
        server.wait_lines(6)
        assert normal(server.end(), server) == ["tcpserver: status: 0/40", *CONNECTION]


@both
@pytest.mark.parametrize(("script", "status"), [("exit 3", 3 << 8), ("kill -9 $$", 9), ("kill -15 $$", 15)])
def test_the_end_has_the_wait_status(which: Which, script: str, status: int) -> None:
    with serving(which, "-v", *QUICK, program=["sh", "-c", script]) as server:
        server.talk()
        server.wait_lines(6)
        assert f"tcpserver: end P1 status {status}" in normal(server.end(), server)


@both
@pytest.mark.parametrize("verbosity", [(), ("-Q",), ("-q",), ("-v", "-Q"), ("-vq",)], ids="".join)
def test_nothing_is_said_unless_asked(which: Which, verbosity: tuple[str, ...]) -> None:
    with serving(which, *verbosity, *QUICK) as server:
        assert server.talk(b"hello") == b"hello"
        assert server.end() == b""


@both
def test_the_process_that_is_named_is_the_program(which: Which) -> None:
    with serving(which, "-v", *QUICK, program=["sh", "-c", "echo $$"]) as server:
        pid = int(server.talk())
        assert b"tcpserver: pid %d from 127.0.0.1\n" % pid in server.wait_lines(6)


@both
def test_the_environment_is_that_of_tcpserver(which: Which) -> None:
    given = {
        "PATH": os.environ["PATH"],
        "HOME": "/nowhere",
        "EMPTY": "",
        "ODD": os.fsdecode(b"\xff\xe9 =\n\t"),
        "PROTO": "UNIX",
        "TCPLOCALIP": "192.0.2.1",
        "TCPLOCALHOST": "inherited",
        "TCPREMOTEHOST": "inherited",
        "TCPREMOTEINFO": "inherited",
        "TCPREMOTEPORT": "1",
        "NOTIFY_SOCKET": "/nowhere",
        "LC_ALL": "C",
    }
    with serving(which, *QUICK, program=PRINT_ENVIRONMENT, env=given) as server:
        got = server.environment(source="127.0.0.2")
        port = got.pop("TCPREMOTEPORT")
        assert port.isdecimal()
        kept = {name: value for name, value in given.items() if not name.startswith(("TCP", "PROTO"))}
        assert got == {
            **kept,
            "PROTO": "TCP",
            "TCPLOCALIP": "127.0.0.1",
            "TCPLOCALPORT": str(server.port),
            "TCPLOCALHOST": "0",
            "TCPREMOTEIP": "127.0.0.2",
        }


@both
@pytest.mark.parametrize("given", [{}, {"LC_CTYPE": "C.UTF-8"}, {"LANG": "C", "X": "y"}])
def test_nothing_is_added_to_the_environment(which: Which, given: dict[str, str]) -> None:
    with serving(which, *QUICK, program=["/usr/bin/env", "-0"], env=given) as server:
        got = server.environment()
        assert {name: got[name] for name in got if not name.startswith(("TCP", "PROTO"))} == given


@both
@pytest.mark.parametrize("name", ["", "0", "mx.test", "a:b%c d"])
def test_the_local_name_is_given(which: Which, name: str) -> None:
    with serving(which, "-v", "-RH", "-l", name, program=PRINT_ENVIRONMENT) as server:
        assert server.environment()["TCPLOCALHOST"] == name
        shown = re.sub("[:% ]", "?", name)
        assert f"tcpserver: ok P1 {shown}:127.0.0.1:PORT :127.0.0.1::N" in normal(server.end(), server)


@both
@pytest.mark.parametrize("length", [99, 100, 101, 300])
def test_a_long_name_is_cut_in_the_line(which: Which, length: int) -> None:
    with serving(which, "-v", "-RH", "-l", "x" * length) as server:
        server.talk()
        shown = "x" * min(length, 100) + ("..." if length >= 100 else "")
        server.wait_lines(6)
        assert f"tcpserver: ok P1 {shown}:127.0.0.1:PORT :127.0.0.1::N" in normal(server.end(), server)


@both
def test_the_program_has_three_descriptors(which: Which) -> None:
    with serving(which, *QUICK, program=["sh", "-c", "exec ls -l /proc/$$/fd"]) as server:
        listing = server.talk().decode().splitlines()[1:]
        descriptors = {int(line.split()[-3]): line.split()[-1] for line in listing}
        del descriptors[3]  # that of ls
        assert sorted(descriptors) == [0, 1, 2]
        assert descriptors[0] == descriptors[1]
        assert descriptors[0].startswith("socket:")
        assert descriptors[2].startswith("pipe:")


@both
def test_descriptor_2_is_that_of_tcpserver(which: Which) -> None:
    with serving(which, "-q", *QUICK, program=["sh", "-c", "echo said by the program >&2"]) as server:
        assert server.talk() == b""
        assert server.wait_lines(1) == [b"said by the program\n"]


def test_standard_descriptors_may_be_closed() -> None:
    """The original closes its own listening socket then, which has the number 0."""
    shell = ("sh", "-c", 'exec "$@" <&- 2>&-', "sh")
    with serving(BOTH[1], "-v", *QUICK, prefix=lambda *command: [*shell, *command]) as server:
        assert server.talk(b"x") == b"x"


@both
def test_the_program_runs_where_tcpserver_was_started(which: Which, public: Path) -> None:
    with serving(
        which, *QUICK, program=["sh", "-c", "pwd; umask; ulimit -n"], cwd=public, umask=0o27
    ) as server:
        limit = subprocess.run(["sh", "-c", "ulimit -n"], check=True, capture_output=True, text=True).stdout
        assert server.talk().decode() == f"{public}\n0027\n{limit}"


@both
def test_the_program_has_default_signals(which: Which) -> None:
    with serving(which, *QUICK, program=["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]) as server:
        assert [line.split()[1] for line in server.talk().decode().splitlines()] == ["0" * 16] * 2


@both
def test_a_program_that_is_not_there(which: Which) -> None:
    denied = "access denied"
    for program, why in (("nowhere", "file does not exist"), ("/", denied), ("/etc/passwd", denied)):
        with serving(which, "-v", *QUICK, program=[program]) as server:
            assert server.talk() == b""
            server.wait_lines(7)
            assert normal(server.end(), server) == [
                "tcpserver: status: 0/40",
                *CONNECTION[:3],
                f"tcpserver: warning: dropping connection, unable to run {program}: {why}",
                "tcpserver: end P1 status 28416",
                "tcpserver: status: 0/40",
            ]


@both
def test_the_program_is_looked_for_in_the_path(which: Which, public: Path) -> None:
    for place, mode in (("first", 0o644), ("second", 0o755)):
        (public / place).mkdir()
        (public / place / "prog").write_text(f"#!/bin/sh\necho {place}\n")
        (public / place / "prog").chmod(mode)
    env = {"PATH": f"{public}/none:{public}/first:{public}/second"}
    with serving(which, *QUICK, program=["prog"], env=env) as server:
        assert server.talk() == b"second\n"
    for path in ("", ":/bin"):
        with serving(which, *QUICK, program=["prog"], env={"PATH": path}, cwd=public / "second") as server:
            assert server.talk() == b"second\n"
    with serving(which, *QUICK, program=["env", "-0"], env={}) as server:
        assert "PATH" not in server.environment()


@both
def test_no_more_than_the_limit_run_at_once(which: Which) -> None:
    with serving(which, "-vc", "2", *QUICK) as server:
        first, second, third = server.connect(), server.connect(), server.connect()
        with first, second, third:
            server.wait_lines(7)
            third.sendall(b"waits")
            third.setblocking(False)
            with pytest.raises(BlockingIOError):
                third.recv(5)
            third.settimeout(TIMEOUT)
            second.shutdown(socket.SHUT_WR)
            assert third.recv(5) == b"waits"
            server.wait_lines(12)
            for client in (first, third):
                client.shutdown(socket.SHUT_WR)
                receive_all(client)
        server.wait_lines(16)
        said = normal(server.end(), server)
        statuses = [line.rpartition(" ")[2] for line in said if "status:" in line]
        assert statuses == ["0/2", "1/2", "2/2", "1/2", "2/2", "1/2", "0/2"]


@both
@pytest.mark.parametrize("limit", ["0", "x", ""])
def test_without_a_limit_nobody_is_served(which: Which, limit: str) -> None:
    with serving(which, "-v", "-c", limit, *QUICK) as server, server.connect() as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        server.wait_for(lambda lines: b"tcpserver: status: 0/0\n" in lines)  # ours warns, before it or after
        assert server.signal(15) == 0
        with pytest.raises(ConnectionError):
            client.recv(1)


@both
@pytest.mark.parametrize("limit", ["7x", "007"])
def test_a_number_ends_where_its_digits_do(which: Which, limit: str) -> None:
    with serving(which, "-v", "-c", limit, *QUICK) as server:
        assert server.wait_lines(1) == [b"tcpserver: status: 0/7\n"]


@both
def test_the_last_option_holds(which: Which) -> None:
    with serving(which, "-vc1", "-c3", "-lone", "-RH", "-ltwo", program=PRINT_ENVIRONMENT) as server:
        assert server.wait_lines(1) == [b"tcpserver: status: 0/3\n"]
        assert server.environment()["TCPLOCALHOST"] == "two"


@both
def test_a_port_wraps_as_a_number_of_two_bytes(which: Which) -> None:
    port = free_port()
    with serving(which, *QUICK, port=str(65536 + port)) as server:
        assert server.port == port


@both
def test_every_address_of_the_host(which: Which) -> None:
    for host in ("0", "", "0.0.0.0", "[0.0.0.0]"):
        with (
            serving(which, *QUICK, host=host, program=PRINT_ENVIRONMENT) as server,
            server.connect(host="127.0.0.9") as client,
        ):
            assert b"TCPLOCALIP=127.0.0.9" in receive_all(client)


@both
@pytest.mark.parametrize(("option", "expected"), [("-d", 0), ("-D", 1), ("-Dd", 0)])
def test_small_writes_are_delayed_or_not(which: Which, option: str, expected: int) -> None:
    script = (
        "import socket; print(socket.socket(fileno=0).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))"
    )
    with serving(which, option, *QUICK, program=["python3", "-c", script]) as server:
        assert int(server.talk()) == expected


RECORD_ROUTE = bytes([7, 7, 4, 0, 0, 0, 0, 0])
"""An IP option that every kernel lets through, and echoes unless it is told not to: RFC 791."""


@both
@pytest.mark.parametrize(("options", "killed"), [((), True), (("-o",), False), (("-oO",), True)])
def test_ip_options_are_killed_or_not(which: Which, options: tuple[str, ...], killed: bool) -> None:
    """The original takes BSD's number for IP_OPTIONS, which is another option of Linux: it kills none."""
    option = "socket.socket(fileno=0).getsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, 40)"
    script = f"import socket; print(len({option}))"
    with (
        serving(which, *options, *QUICK, program=["python3", "-c", script]) as server,
        socket.socket() as client,
    ):
        client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, RECORD_ROUTE)
        client.connect((LOOPBACK, server.port))
        kept = not killed or not which.ours
        assert bool(int(receive_all(client))) == kept


@both
@pytest.mark.parametrize("backlog", ["0", "1", "5", "99999999"])
def test_any_backlog_will_do(which: Which, backlog: str) -> None:
    with serving(which, "-b", backlog, *QUICK) as server:
        assert server.talk(b"x") == b"x"


@both
def test_the_banner_comes_before_the_program(which: Which) -> None:
    with serving(which, "-B", "220 mx ESMTP\r\n", *QUICK, program=["echo", "program"]) as server:
        assert server.talk() == b"220 mx ESMTP\r\nprogram\n"


# Rules


@both
def test_a_denied_client(which: Which, public: Path) -> None:
    cdb = compiled(public, "127.0.0.2:deny\n:allow\n")
    with serving(which, "-v", "-x", str(cdb), *QUICK) as server:
        assert server.talk(source="127.0.0.2") == b""
        server.wait_lines(6)
        assert server.talk(b"x") == b"x"
        server.wait_lines(11)
        assert normal(server.end(), server) == [
            "tcpserver: status: 0/40",
            "tcpserver: status: 1/40",
            "tcpserver: pid P1 from 127.0.0.2",
            "tcpserver: deny P1 0:127.0.0.1:PORT :127.0.0.2::N",
            "tcpserver: end P1 status 25600",
            "tcpserver: status: 0/40",
            *(line.replace("P1", "P2") for line in CONNECTION),
        ]


@both
def test_a_denied_client_gets_the_banner(which: Which, public: Path) -> None:
    cdb = compiled(public, ":deny\n")
    with serving(which, "-B", "go away\r\n", "-x", str(cdb), *QUICK) as server:
        assert server.talk() == b"go away\r\n"


@both
def test_rules_set_variables(which: Which, public: Path) -> None:
    rules = (
        '127.0.0.2:allow,RELAYCLIENT="",TCPREMOTEIP="10.0.0.1",PATH="/nowhere",NEW="a=b c"\n'
        '127.0.0.:allow,NET="yes"\n'
        ':allow,REST="1"\n'
    )
    cdb = compiled(public, rules)
    with serving(which, "-x", str(cdb), *QUICK, program=PRINT_ENVIRONMENT) as server:
        got = server.environment(source="127.0.0.2")
        assert (got["RELAYCLIENT"], got["TCPREMOTEIP"], got["PATH"]) == ("", "10.0.0.1", "/nowhere")
        assert got["NEW"] == "a=b c"
        assert not {"NET", "REST"} & got.keys()
        assert server.environment(source="127.0.0.3")["NET"] == "yes"


@both
def test_changed_rules_count_at_once(which: Which, public: Path) -> None:
    cdb = compiled(public, ":allow\n")
    with serving(which, "-x", str(cdb), *QUICK, program=PRINT_ENVIRONMENT) as server:
        assert "ROUND" not in server.environment()
        for number in range(5):
            compiled(public, f':allow,ROUND="{number}",V{number}="new"\n')
            got = server.environment()
            assert (got["ROUND"], got[f"V{number}"]) == (str(number), "new")
            compiled(public, ":deny\n")
            assert server.talk() == b""


@both
def test_without_the_rules_nobody_comes_in(which: Which, public: Path) -> None:
    cdb = public / "rules.cdb"
    with serving(which, "-v", "-x", str(cdb), *QUICK) as server:
        assert server.talk(b"x") == b""
        server.wait_lines(6)
        compiled(public, ":allow\n")
        assert server.talk(b"x") == b"x"
        server.wait_lines(11)
        cdb.unlink()
        assert server.talk(b"x") == b""
        server.wait_lines(16)
        dropped = [
            "tcpserver: status: 1/40",
            "tcpserver: pid P1 from 127.0.0.1",
            f"tcpserver: warning: dropping connection, unable to read {cdb}: file does not exist",
            "tcpserver: end P1 status 28416",
            "tcpserver: status: 0/40",
        ]
        assert normal(server.end(), server) == [
            "tcpserver: status: 0/40",
            *dropped,
            *(line.replace("P1", "P2") for line in CONNECTION),
            *(line.replace("P1", "P3") for line in dropped),
        ]


@both
def test_without_rules_everybody_comes_in_if_that_is_wanted(which: Which, public: Path) -> None:
    cdb = public / "rules.cdb"
    with serving(which, "-X", "-x", str(cdb), *QUICK) as server:
        assert server.talk(b"x") == b"x"
        compiled(public, ":deny\n")
        assert server.talk(b"x") == b""
        cdb.unlink()
        assert server.talk(b"x") == b"x"
        cdb.write_bytes(b"cut off")
        assert server.talk(b"x") == b""
        warning = b"tcpserver: warning: dropping connection, unable to read %b: protocol error\n" % bytes(cdb)
        assert server.end() == warning


@both
def test_rules_that_are_cut_off_let_nobody_in(which: Which, public: Path) -> None:
    cdb = public / "rules.cdb"
    cdb.write_bytes(b"cut off")
    with serving(which, "-x", str(cdb), *QUICK) as server:
        assert server.talk(b"x") == b""
        warning = f"tcpserver: warning: dropping connection, unable to read {cdb}: protocol error\n"
        assert server.end() == warning.encode()


# Users


@both
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-u", "12345"), "12345 0"),
        (("-u", "12345", "-g", "23456"), "12345 23456 23456"),
        (("-g", "23456"), "0 23456 23456"),
        (("-u", "0", "-g", "0"), "0 0"),
        (("-U",), "777 888 888"),
        (("-U", "-u", "12345"), "12345 888 888"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_program_runs_as_somebody(which: Which, options: tuple[str, ...], expected: str) -> None:
    env = {**os.environ, "UID": "777", "GID": "888"}
    program = ["sh", "-c", "echo $(id -u) $(id -g) $(test $(id -g) = 0 || id -G)"]
    with serving(which, *options, *QUICK, program=program, env=env, cwd="/") as server:
        assert server.talk().decode().strip() == expected


@both
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_ids_are_given_up_after_the_port_is_bound(which: Which) -> None:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
    port = next(number for number in range(1023, 512, -1) if free(number))
    with serving(which, "-u", "12345", "-g", "12345", *QUICK, port=str(port), cwd="/") as server:
        assert server.port == port
        assert server.talk(b"x") == b"x"


def free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
