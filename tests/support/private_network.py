"""A network and file system view of a test's own: ports 53 and 113, /etc/resolv.conf, addresses.

    with private_network(tmp_path, {"/etc/resolv.conf": "nameserver 127.0.0.1\n"}) as network:
        with network.serving_names({"7.2.0.192.in-addr.arpa PTR": ["client.test."]}) as names:
            subprocess.run(network.command("tcpclient", "127.0.0.1", "25", "cat"))

Programs run inside with the same process id, by nsenter(1). Sockets that are made inside may be used by
the threads of a test outside. All of it goes away with the test, even if that is killed: the namespaces
live as long as a process that ends when its standard input does.
"""

import contextlib
import ctypes
import functools
import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

import dns_server

NAMESERVER = {"/etc/resolv.conf": "nameserver 127.0.0.1\n"}
"""What makes resolvers ask the test."""
DNS_PORT, IDENT_PORT = 53, 113
DEADLINE = 10.0

_CLONE_NEWNET = 0x40000000
_TOOLS = ("unshare", "nsenter", "mount", "ip")
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


@functools.cache
def why_not() -> str | None:
    """Return why there can be no private network here, None if there can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        return f"a private network takes root and {', '.join(_TOOLS)}"
    attempt = subprocess.run(["unshare", "--net", "--mount", "true"], check=False, capture_output=True)
    return None if attempt.returncode == 0 else "no namespaces can be made here"


class PrivateNetwork:
    """The namespaces, as a test sees them."""

    def __init__(self, holder: int) -> None:
        """Take the process that holds them."""
        self._folder = f"/proc/{holder}/ns"

    def command(self, *argv: str | os.PathLike[str]) -> list[str]:
        """Return a command that runs another one inside; it keeps the process id."""
        into = ["nsenter", f"--net={self._folder}/net", f"--mount={self._folder}/mnt", "--"]
        return [*into, *(os.fspath(word) for word in argv)]

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the private network, in a thread of its own: what makes sockets there."""
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                namespace = os.open(f"{self._folder}/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(namespace, _CLONE_NEWNET) < 0:
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(namespace)
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - raised by the caller
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        for error in errors:
            raise error
        return results[0]

    def listener(self, host: str = "127.0.0.1", port: int = 0, backlog: int = 16) -> socket.socket:
        """Return a socket that listens inside."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        make = functools.partial(socket.create_server, (host, port), family=family, backlog=backlog)
        return self.call(make)

    def connect(self, host: str, port: int) -> socket.socket:
        """Return a socket that is connected inside."""
        return self.call(functools.partial(socket.create_connection, (host, port), DEADLINE))

    def add_address(self, address: str) -> None:
        """Give the loopback interface another address, such as 192.0.2.7/32 or 2001:db8::7/128."""
        add = self.command(
            "ip", "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else [])
        )
        subprocess.run(add, check=True, timeout=DEADLINE)
        if ":" in address:
            self.call(functools.partial(_until_reached, address.partition("/")[0]))

    @contextlib.contextmanager
    def serving_names(self, zone: dns_server.Zone, host: str = "127.0.0.1") -> Iterator[dns_server.DnsServer]:
        """Serve a zone on port 53 inside until the end of the block."""
        sockets = self.call(functools.partial(dns_server.bound_sockets, host, DNS_PORT))
        with dns_server.serving(zone, sockets=sockets) as server:
            yield server

    @contextlib.contextmanager
    def serving(
        self, talk: Callable[[socket.socket], None], host: str = "127.0.0.1", port: int = 0
    ) -> Iterator[int]:
        """Have a function talk to every client of a port inside, and yield the port's number.

        Each client has a thread of its own. Ends when all talks have: they should not wait for ever.
        """
        with serving_clients(self.listener(host, port), talk) as number:
            yield number

    @contextlib.contextmanager
    def silence(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
        """Yield the port of a listener whose queue is full: who connects to it hears nothing."""
        with self.listener(host, port, backlog=0) as listener:
            number = listener.getsockname()[1]
            with self.connect(host, number):
                yield number


def _until_reached(host: str) -> None:
    """Wait until an address of IPv6 can be reached: the kernel completes it after ip(8) has ended."""
    waiter = threading.Event()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.05)
        for _ in range(int(DEADLINE / 0.05)):
            try:
                if sock.getsockname()[1] == 0:
                    sock.bind((host, 0, 0, socket.if_nametoindex("lo")))
                sock.sendto(b"?", sock.getsockname())
                sock.recv(1)
            except TimeoutError:
                continue
            except OSError:
                waiter.wait(0.05)
            else:
                return
    raise AssertionError(f"{host} cannot be reached")


@contextlib.contextmanager
def serving_clients(listener: socket.socket, talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Have a function talk to every client of a listening socket that came until the end of the block."""
    talks: list[threading.Thread] = []
    over, end = socket.socketpair()

    def talk_to(client: socket.socket) -> None:
        with client, contextlib.suppress(ConnectionError):
            client.settimeout(DEADLINE)
            talk(client)

    def accept() -> None:
        poll, ready = select.poll(), set[int]()
        for sock in (listener, over):
            poll.register(sock, select.POLLIN)
        while ready != {over.fileno()}:  # a client may have come and gone before it is accepted
            if listener.fileno() in ready:
                client, _address = listener.accept()
                talks.append(threading.Thread(target=talk_to, args=[client]))
                talks[-1].start()
            ready = {descriptor for descriptor, _events in poll.poll()}

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        end.close()
        acceptor.join(DEADLINE)
        over.close()
        listener.close()
        for thread in talks:
            thread.join(DEADLINE)


def answering(*pieces: bytes, close: bool = True) -> Callable[[socket.socket], None]:
    """Return a talk that reads a line and sends pieces, in which PORTS is replaced by what was asked.

    Without close, it waits until the client closes. So ident servers answer, and others that are asked once.
    """

    def talk(client: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\n") and (byte := client.recv(1)):
            line += byte
        for piece in pieces:
            client.sendall(piece.replace(b"PORTS", line.strip()))
        if not close:
            with contextlib.suppress(TimeoutError):
                client.recv(1)

    return talk


@contextlib.contextmanager
def private_network(
    folder: Path, files: Mapping[str, str] = NAMESERVER, addresses: Sequence[str] = ()
) -> Iterator[PrivateNetwork]:
    """Make a network with nothing but loopback, in which files have other contents; skip where none can be.

    The files must be there. folder is for what is put in their place.
    """
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    script = ["ip link set lo up"]
    for number, (path, content) in enumerate(files.items()):
        replacement = folder / f"private-{number}"
        replacement.write_text(content)
        script.append(f'mount --bind "{replacement}" "$(readlink -f "{path}")"')
    script += ["echo ready", "exec cat"]
    command = ["unshare", "--net", "--mount", "sh", "-ec", "\n".join(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        with holder.stdin:
            assert holder.stdout.readline() == b"ready\n"
            network = PrivateNetwork(holder.pid)
            for address in addresses:
                network.add_address(address)
            yield network
