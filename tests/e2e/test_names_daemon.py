"""Names in the daemon: asked of a real DNS server, given to programs, and what a dead one costs."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import dns_server
from daemon import Daemon, running

ZONE = {
    "1.0.0.127.in-addr.arpa PTR": ["Client.Example.ORG."],
    "client.example.org A": ["127.0.0.1"],
    "2.0.0.127.in-addr.arpa PTR": ["liar.example.org."],
    "liar.example.org A": ["192.0.2.1"],
}


def names_of(reported: bytes) -> dict[str, str]:
    """Return the variables about names that a program got."""
    variables = dict(line.split("=", 1) for line in reported.decode().splitlines())
    wanted = ("TCPREMOTEHOST", "TCPLOCALHOST", "TCPREMOTEINFO")
    return {name: variables[name] for name in wanted if name in variables}


def service(**settings: Any) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "program": ["env"], **settings}


def test_programs_get_the_names_that_their_services_look_up(tmp_path: Path) -> None:
    services = {
        "none": service(),
        "host": service(lookup={"remote_host": True}),
        "paranoid": service(lookup={"remote_host": True, "paranoid": True}),
        "local": service(lookup={"local_host": True}),
        "given": service(lookup={"local_host": "mx.example.net"}),
    }
    with (
        dns_server.serving(ZONE) as server,
        running(tmp_path, {"nameservers": [server.address], "services": services}) as daemon,
    ):
        reported = {name: names_of(daemon.talk(name)) for name in services}
        liar = {name: names_of(daemon.talk(name, b"", "127.0.0.2")) for name in ("host", "paranoid")}
        nobody = names_of(daemon.talk("host", b"", "127.0.0.9"))
    assert reported == {
        "none": {},
        "host": {"TCPREMOTEHOST": "client.example.org"},
        "paranoid": {"TCPREMOTEHOST": "client.example.org"},
        "local": {"TCPLOCALHOST": "client.example.org"},
        "given": {"TCPLOCALHOST": "mx.example.net"},
    }
    assert liar == {"host": {"TCPREMOTEHOST": "liar.example.org"}, "paranoid": {}}
    assert nobody == {}
    assert server.asked["1.0.0.127.in-addr.arpa PTR"] == 1


def test_rules_that_need_a_name_wait_for_it_and_others_do_not(tmp_path: Path) -> None:
    rules = [
        {"from": "127.0.0.2", "deny": None},
        {"from": ".example.org", "allow": None, "env": {"WHO": "friend"}},
    ]
    lookup = {"remote_host": True, "timeout": "5s"}
    config = {"services": {"s": service(rules=rules, default_action="deny", lookup=lookup)}}
    with (
        dns_server.serving(ZONE) as server,
        running(tmp_path, {"nameservers": [server.address], **config}) as daemon,
    ):
        assert b"WHO=friend\n" in daemon.talk("s")
        assert daemon.talk("s", b"", "127.0.0.9") == b""
        assert daemon.talk("s", b"", "127.0.0.2") == b""
        assert server.asked["2.0.0.127.in-addr.arpa PTR"] == 0


@pytest.mark.waits
def test_a_dead_resolver_fills_no_slots_and_delays_no_other_service(tmp_path: Path) -> None:
    lookup = {"remote_host": True, "timeout": "2s"}
    services = {"slow": service(lookup=lookup, max_connections=2), "quick": service()}
    with (
        dns_server.serving(dns_server.everything(dns_server.silent)) as server,
        running(tmp_path, {"nameservers": [server.address], "services": services}) as daemon,
    ):
        began = time.monotonic()
        waiting = [daemon.connect("slow", f"127.0.0.{source}") for source in range(1, 21)]
        assert daemon.talk("quick")
        assert time.monotonic() - began < 1.9
        for sock in waiting:
            with sock:
                assert names_of(read_all(sock)) == {}
        # Twenty seconds, had they waited in pairs, as there are slots.
        assert time.monotonic() - began < 15.0
        took = [timed(daemon, f"127.0.0.{source}") for source in range(30, 36)]
        # Some still wait, until it is clear that the resolver is dead; the last do not.
        assert max(took[-2:]) < 1.9, took
        daemon.wait_events(20 + len(took), "connection_served", service="slow")


def timed(daemon: Daemon, source: str) -> float:
    began = time.monotonic()
    assert names_of(daemon.talk("slow", b"", source)) == {}
    return time.monotonic() - began


def read_all(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def ident(host: str, replies: Mapping[int, bytes]) -> Iterator[None]:
    """Answer ident questions at a host's port 113: each with the reply of its turn."""
    with socket.create_server((host, 113)) as listener:

        def serve() -> None:
            for reply in replies.values():
                sock, _ = listener.accept()
                with sock:
                    ports = sock.recv(100).strip()
                    sock.sendall(reply.replace(b"PORTS", ports))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(10)


@pytest.mark.skipif(os.geteuid() != 0, reason="port 113 takes root")
def test_the_ident_user_is_set_empty_or_unset_as_the_contract_says(tmp_path: Path) -> None:
    replies = {1: b"PORTS : USERID : UNIX : joe\r\n", 2: b"PORTS : ERROR : NO-USER\r\n", 3: b"nonsense\r\n"}
    config = {"services": {"s": service(lookup={"ident": True})}}
    with running(tmp_path, config) as daemon:
        try:
            with ident("127.0.0.77", replies):
                reported = [names_of(daemon.talk("s", b"", "127.0.0.77")) for _ in replies]
        except PermissionError:
            pytest.skip("port 113 may not be bound here")
        assert reported == [{"TCPREMOTEINFO": "joe"}, {"TCPREMOTEINFO": ""}, {}]
        assert names_of(daemon.talk("s")) == {}


def slow(**settings: Any) -> dict[str, Any]:
    return service(lookup={"remote_host": True, "timeout": "1s"}, **settings)


def test_lookups_that_end_together_start_no_more_than_launchers_take(tmp_path: Path) -> None:
    clients = 80
    with (
        dns_server.serving(dns_server.everything(dns_server.silent)) as server,
        running(
            tmp_path, {"nameservers": [server.address], "services": {"s": slow(max_connections=100)}}
        ) as daemon,
    ):
        waiting = [daemon.connect("s", f"127.0.1.{number + 1}") for number in range(clients)]
        for sock in waiting:
            with sock:
                assert read_all(sock)
        daemon.wait_events(clients, "connection_served", service="s")
        assert daemon.service("s")["failed"] == {}


def test_who_is_being_looked_up_is_sent_away_when_the_service_goes_and_when_the_daemon_stops(
    tmp_path: Path,
) -> None:
    slowest = service(lookup={"remote_host": True, "timeout": "60s"})
    with (
        dns_server.serving(dns_server.everything(dns_server.silent)) as server,
        running(
            tmp_path, {"nameservers": [server.address], "services": {"goes": slowest, "stays": slowest}}
        ) as daemon,
    ):
        goes, stays = daemon.connect("goes"), daemon.connect("stays")
        with goes, stays:
            while sum(item["live"] for item in daemon.status()["services"]) < 2:
                pass
            daemon.reload({"services": {"stays": slowest}})
            assert daemon.stop() == 0
            assert read_all(goes) == b""
            assert read_all(stays) == b""
        daemon.start()
