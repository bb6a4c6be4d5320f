"""Comparison with Debian's tcpserver: the same DNS and ident servers, the same variables.

tcpserver asks DNS servers at port 53 and ident servers at port 113 only: this needs root, on
loopback addresses that nobody else uses.
"""

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator

import pytest

import peers
from dns_server import DnsServer, serving
from ident_server import answering
from ucspid.lookup.dns import Resolver
from ucspid.lookup.ident import Ident
from ucspid.lookup.names import Names
from ucspid.plan import Lookup
from ucspid.policy.environ import local_variables, variables
from uvloops import in_uvloop

TCPSERVER = peers.require("tcpserver")
NAME_SERVER = "127.53.0.53"
SERVER = "127.53.0.1"
CLIENTS = [f"127.53.0.{number}" for number in range(2, 12)]

SECONDS = 5.0
"""How long names may take."""


def reverse(ip: str) -> str:
    return ".".join(reversed(ip.split("."))) + ".in-addr.arpa"


NAMES = [
    "plain.example.",
    "UPPER.Example.",
    "under_score.example.",
    r"a\.b\\c.\000\010\032\255.\*+/~=@.example.",
    f"{'x' * 63}.{'y' * 63}.{'z' * 63}.{'w' * 61}.",
    "unconfirmed.example.",
    "no-address.example.",
]
ZONE = {
    f"{reverse(SERVER)} PTR": ["here.example."],
    **{f"{reverse(ip)} PTR": [name] for ip, name in zip(CLIENTS, NAMES, strict=False)},
    f"{reverse(CLIENTS[7])} CNAME": ["alias.example."],
    "alias.example PTR": ["behind-alias.example."],
    f"{reverse(CLIENTS[8])} PTR": [f"host-{number:040}.example." for number in range(30)],
    "plain.example A": [CLIENTS[0]],
    "upper.example A": ["192.0.2.1", CLIENTS[1]],
    "unconfirmed.example A": [CLIENTS[0]],
}
"""The last client has no name."""

REPLIES = {
    CLIENTS[0]: b"PORTS : USERID : UNIX : joe\r\n",
    CLIENTS[1]: b"PORTS : USERID : OTHER , US-ASCII :\t a:b c\xff\r\n",
    CLIENTS[2]: b"PORTS : ERROR : NO-USER\r\n",
    CLIENTS[3]: b"PORTS : USERID : UNIX : joe",
    CLIENTS[4]: b"PORTS : USERID : UNIX : " + b"x" * 300 + b"\r\n",
    CLIENTS[5]: b"",
}


@pytest.fixture(scope="module")
def name_server() -> Iterator[DnsServer]:
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(serving(ZONE, NAME_SERVER, 53))
        except OSError as problem:
            peers.lacking(f"cannot be a DNS server at {NAME_SERVER}: {problem.strerror}")
        yield server


@contextlib.contextmanager
def tcpserver(*options: str) -> Iterator[int]:
    """Run env under tcpserver; yield its port."""
    command = [TCPSERVER, "-1", *options, SERVER, "0", "/usr/bin/env"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={"DNSCACHEIP": NAME_SERVER})
    with process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def compared(port: int, names: Names, lookup: Lookup, ip: str) -> None:
    reader, writer = await asyncio.open_connection(SERVER, port, local_addr=(ip, 0))
    remote_port = writer.get_extra_info("sockname")[1]
    theirs = {line for line in (await reader.read()).split(b"\n") if line.startswith((b"TCP", b"PROTO"))}
    writer.close()
    await writer.wait_closed()
    found = await names.find(lookup, (SERVER, port), (ip, remote_port), SECONDS)
    ours = variables(local_variables(SERVER, port), ip, remote_port, 1, "tcp", found)
    assert set(ours.split(b"\0")) - {b"UCSPID_CONN_ID=1"} == theirs


@pytest.mark.parametrize("paranoid", [False, True])
def test_names(paranoid: bool, name_server: DnsServer) -> None:
    lookup = Lookup(
        remote_host=True, paranoid=paranoid, local_host=None, local_ptr=True, ident=False, timeout=10.0
    )

    @in_uvloop
    async def check() -> None:
        names = Names(Resolver([name_server.address]), Ident())
        with tcpserver("-R", "-p" if paranoid else "-P") as port:
            for ip in CLIENTS:
                await compared(port, names, lookup, ip)
        await names.close()

    check()


@in_uvloop
async def test_ident_users() -> None:
    lookup = Lookup(
        remote_host=False, paranoid=False, local_host="mx", local_ptr=False, ident=True, timeout=10.0
    )
    names = Names(Resolver(), Ident())
    async with contextlib.AsyncExitStack() as stack:
        for ip, reply in REPLIES.items():
            try:
                await stack.enter_async_context(answering(reply, host=ip, port=113))
            except OSError as problem:
                peers.lacking(f"cannot be an ident server at {ip}: {problem.strerror}")
        with tcpserver("-r", "-H", "-lmx") as port:
            for ip in CLIENTS[: len(REPLIES) + 1]:
                await compared(port, names, lookup, ip)
    await names.close()
