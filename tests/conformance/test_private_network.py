"""What the other tests of this tier stand on: a network of their own, with names, ident and silence."""

import os
import subprocess
from pathlib import Path

import dns_server
from private_network import IDENT_PORT, answering, private_network

LOOK_UP = "import socket, sys; print(socket.gethostbyaddr(sys.argv[1])[0])"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def test_names_come_from_the_test(tmp_path: Path) -> None:
    zone: dns_server.Zone = {"7.2.0.192.in-addr.arpa PTR": ["client.test."]}
    with private_network(tmp_path) as network, network.serving_names(zone) as names:
        assert run(*network.command("python3", "-c", LOOK_UP, "192.0.2.7")) == "client.test\n"
        assert names.asked["7.2.0.192.in-addr.arpa PTR"] == 1
        assert run(*network.command("cat", "/etc/resolv.conf")) == "nameserver 127.0.0.1\n"
    assert Path("/etc/resolv.conf").read_text() != "nameserver 127.0.0.1\n"


def test_an_ident_server_answers(tmp_path: Path) -> None:
    with private_network(tmp_path, addresses=["192.0.2.7/32", "2001:db8::7/128"]) as network:
        for host in ("127.0.0.1", "192.0.2.7", "2001:db8::7"):
            answer = answering(b"PORTS : USERID : UNIX : me\r\n")
            with network.serving(answer, host, IDENT_PORT), network.connect(host, IDENT_PORT) as client:
                client.sendall(b"1 , 2\r\n")
                with client.makefile("rb") as file:
                    assert file.read() == b"1 , 2 : USERID : UNIX : me\r\n"


def test_a_silent_peer_lets_clients_wait(tmp_path: Path) -> None:
    connect = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 0.2)"
    with private_network(tmp_path) as network, network.silence() as port:
        command = network.command("python3", "-c", connect, str(port))
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
        assert ended.stderr.splitlines()[-1] == "TimeoutError: timed out"


def test_programs_keep_their_process_id(tmp_path: Path) -> None:
    with private_network(tmp_path) as network:
        command = network.command("sh", "-c", "echo $$")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.communicate()[0] == f"{program.pid}\n"
        assert run(*network.command("readlink", "/proc/self/ns/net")).strip() != os.readlink(
            "/proc/self/ns/net"
        )
