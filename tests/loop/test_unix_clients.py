"""Clients over Unix sockets: known by their user, counted by it, and never looked up."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from inprocess import Rig, received, serving, settings
from proxy_headers import v1, v2
from tls_processes import secured, tls_serving
from ucspid.admission.listener import Reserve, UnixListener, listener_of
from ucspid.net.endpoint import Endpoint
from ucspid.net.unix import UnixClient
from ucspid.plan import Lookup, Proxy, RuleSpec, Service
from ucspid.policy.environ import names_of

OWN = f"unix:uid={os.geteuid()}"


def at(folder: Path, **changed: Any) -> Service:
    """Return a service that listens on a Unix socket."""
    return settings("s", listen=(Endpoint(f"unix:{folder}/s", 0),), **changed)


def told(rig: Rig, connection: int) -> dict[str, str]:
    """Return the variables of a start, each of which the service's launcher allows."""
    items = rig.launchers[0].variables[connection].split(b"\0")
    found = dict(item.decode().split("=", 1) for item in items)
    assert found.keys() <= {*names_of("tcp", proxied=True, unix=True)}
    return found


def rule(pattern: str, verdict: Any, **changed: Any) -> RuleSpec:
    usual: dict[str, Any] = {
        "env": (), "max_per_ip": None, "rate_per_ip": None, "message": None, "where": "f:1"
    }  # fmt: skip
    return RuleSpec(from_=(pattern,), verdict=verdict, **(usual | changed))


@pytest.mark.parametrize("name", ["path", "@ucspid-test-{pid}"])
def test_a_listener_says_who_has_connected(tmp_path: Path, name: str) -> None:
    name = name.format(pid=os.getpid()) if name.startswith("@") else str(tmp_path / name)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
    sock.listen()
    listener = listener_of(7, sock.detach())
    assert isinstance(listener, UnixListener)
    with listener.sock, socket.socket(socket.AF_UNIX) as client:
        assert (listener.text, listener.backlog) == (f"unix:{name}", 0)
        client.connect(listener.sock.getsockname())
        assert listener.backlog == 1
        descriptor, (ip, port) = listener.accept()
        with socket.socket(fileno=descriptor) as accepted:
            assert not os.get_inheritable(descriptor)
            assert accepted.getblocking()
            assert listener.end(descriptor) == (f"unix:{name}", 0)
        assert isinstance(ip, UnixClient)
        assert (ip, ip.uid, ip.gid, ip.pid, port) == (OWN, os.geteuid(), os.getegid(), os.getpid(), 0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(listener.sock.getsockname())
            assert Reserve().send_one_away(listener) == OWN
    assert listener.backlog == 0


async def test_the_program_is_told_who_its_client_is_and_nothing_is_looked_up(tmp_path: Path) -> None:
    lookup = Lookup(remote_host=True, local_host="here", ident=True, timeout=60.0)
    service = at(tmp_path, lookup=lookup, banner="hello", kill_ip_options=True, env_dialect="systemd")
    async with serving(service) as rig:
        client = rig.connect("s")
        (connection,) = await rig.starts(1)
        assert told(rig, connection) == {
            "PROTO": "UNIX",
            "UNIXLOCALPATH": f"{tmp_path}/s",
            "UNIXREMOTEEUID": str(os.geteuid()),
            "UNIXREMOTEEGID": str(os.getegid()),
            "UNIXREMOTEPID": str(os.getpid()),
            "IPCLOCALPATH": f"{tmp_path}/s",
            "IPCREMOTEEUID": str(os.geteuid()),
            "IPCREMOTEEGID": str(os.getegid()),
            "UCSPID_CONN_ID": f"{connection:x}",
        }
        assert client.recv(10) == b"hello"
        rig.launchers[0].started(connection)
        await rig.until(lambda: rig.named("connection_started"))
        assert rig.named("connection_started")[0]["remote"] == OWN


async def test_connections_of_one_user_are_those_of_one_client(tmp_path: Path) -> None:
    async with serving(at(tmp_path, max_per_ip=1, refuse_message="no")) as rig:
        rig.connect("s")
        await rig.starts(1)
        assert await received(rig.connect("s")) == b"no"
        (event,) = rig.named("connection_refused")
        assert (event["reason"], event["client"], event["remote"]) == ("per_ip", OWN, OWN)


@pytest.mark.parametrize(
    ("spec", "default", "started"),
    [
        (rule(f"uid:{os.geteuid()}", "allow", env=(("WHO", "me"),)), "deny", True),
        (rule("unix:", "deny"), "allow", False),
        (rule("0.0.0.0/0", "deny"), "allow", True),
        (rule("0.0.0.0/0", "allow"), "deny", False),
    ],
)
async def test_rules_and_their_default_hold(
    tmp_path: Path, spec: RuleSpec, default: Any, started: bool
) -> None:
    async with serving(at(tmp_path, rules=(spec,), default_action=default, rule_env=("WHO",))) as rig:
        client = rig.connect("s")
        if started:
            (connection,) = await rig.starts(1)
            assert (b"WHO=me" in rig.launchers[0].variables[connection]) == bool(spec.env)
        else:
            assert await received(client) == b""
            assert rig.named("connection_refused")[0]["reason"] == "denied"


async def test_a_peer_over_a_unix_socket_speaks_for_others_where_the_file_trusts_it(tmp_path: Path) -> None:
    async with serving(at(tmp_path, proxy=Proxy(from_=("unix:", "127.0.0.0/8")), max_per_ip=1)) as rig:
        for client in ("192.0.2.7", "192.0.2.8"):
            rig.connect("s").send(v1(client, "198.51.100.1") + b"EHLO")
        first, second = await rig.starts(2)
        found = told(rig, first)
        assert (found["PROTO"], found["TCPREMOTEIP"], found["TCPLOCALIP"]) == (
            "TCP", "192.0.2.7", "198.51.100.1"
        )  # fmt: skip
        assert not [name for name in found if name.startswith(("UNIX", "IPC", "UCSPID_PROXY"))]
        assert told(rig, second)["TCPREMOTEIP"] == "192.0.2.8"
        rig.launchers[0].started(first)
        rig.launchers[0].started(second)
        rig.connect("s").send(v1("192.0.2.8", "198.51.100.1"))
        await rig.until(lambda: rig.named("connection_refused"))
        (event,) = rig.named("connection_refused")
        assert (event["reason"], event["remote"], event["balancer"]) == ("per_ip", "192.0.2.8:4321", OWN)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(bytes(216), 0x31)])
async def test_a_header_that_names_nobody_makes_the_peer_the_client(tmp_path: Path, header: bytes) -> None:
    async with serving(at(tmp_path, proxy=Proxy(from_=("unix:",)))) as rig:
        rig.connect("s").send(header)
        (connection,) = await rig.starts(1)
        found = told(rig, connection)
        assert (found["PROTO"], found["UNIXREMOTEPID"]) == ("UNIX", str(os.getpid()))


@pytest.mark.parametrize(
    ("from_", "sent", "reason"),
    [
        (("0.0.0.0/0", "::/0"), v1("192.0.2.7", "192.0.2.1"), "not_proxied"),
        (("unix:",), b"EHLO client\r\n", "proxy_header"),
    ],
)
async def test_whom_the_file_does_not_trust_or_who_sends_no_header_is_refused(
    tmp_path: Path, from_: tuple[str, ...], sent: bytes, reason: str
) -> None:
    async with serving(at(tmp_path, proxy=Proxy(from_=from_))) as rig:
        rig.connect("s").send(sent)
        await rig.until(lambda: rig.named("connection_refused"))
        (event,) = rig.named("connection_refused")
        assert (event["reason"], event["remote"]) == (reason, OWN)


@pytest.mark.parametrize("dialect", ["s6", "ucspi-ssl"])
async def test_tls_is_there_over_a_unix_socket_too(tmp_path: Path, dialect: str) -> None:
    service = secured("s", tls={"env": dialect}, listen=(Endpoint(f"unix:{tmp_path}/s", 0),))
    async with tls_serving(service) as tls:
        tls.rig.connect("s")
        number, _handshake = await tls.handshake()
        tls.processes[0].shaken(number, variables=(b"SSL_PROTOCOL=TLSv1.3",))
        await tls.rig.starts(1)
        found = tls.variables(number)
        assert (found[b"PROTO"], found[b"SSL_PROTOCOL"]) == (b"UNIX", b"TLSv1.3")
        assert found[b"UNIXLOCALPATH"] == f"{tmp_path}/s".encode()
        assert not [name for name in found if name.startswith((b"TCP", b"SSLREMOTE", b"SSLLOCAL"))]
