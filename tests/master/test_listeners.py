"""HeldListener sockets: bound as the plan says, refused with the service's name and address."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from plans import service
from ucspid.errors import ResourceError
from ucspid.master.fdstore import Passed
from ucspid.master.listener_table import Completed, ListenerTable
from ucspid.master.listeners import HeldListener, Key, address_of, keys, listens_on
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Service
from ucspid.records import replace

V4 = Endpoint("127.0.0.1", 0)
V6 = Endpoint("::1", 0)
DUAL = Endpoint("", 0)


def open_listener(its_service: Service, address: Endpoint) -> HeldListener:
    """Have a table acquire the listener of a service, as the master does."""
    acquired: dict[Key, list[HeldListener]] = {}
    its_service = replace(its_service, listen=(address,))
    assert ListenerTable().acquire([its_service], acquired) == []
    ((listening,),) = acquired.values()
    return listening


def port_of(listening: HeldListener) -> int:
    port: int = listening.sock.getsockname()[1]
    return port


def test_it_listens() -> None:
    listening = open_listener(service("a"), V4)
    with listening.sock as sock, socket.create_connection(sock.getsockname()):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not sock.getblocking()
        assert not sock.get_inheritable()


def test_an_ipv6_listener_leaves_ipv4_to_others() -> None:
    problems = []
    for _ in range(5):  # a port that is free for IPv6 may just be some client's for IPv4
        with open_listener(service("a"), V6).sock as sock:
            port = sock.getsockname()[1]
            try:
                open_listener(service("b"), replace(V4, port=port)).sock.close()
            except ResourceError as problem:
                problems.append(str(problem))
            else:
                return
    pytest.fail(str(problems))


def test_a_bare_port_takes_both_families() -> None:
    listening = open_listener(service("a"), DUAL)
    with listening.sock:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port_of(listening))).close()


def test_accepted_sockets_have_the_options_of_the_service() -> None:
    with (
        open_listener(service("a", nodelay=True, keepalive=True), V4).sock as sock,
        socket.create_connection(sock.getsockname()),
    ):
        sock.setblocking(True)
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_options_change_on_a_socket_that_listens() -> None:
    listening = open_listener(service("a", nodelay=True), V4)
    with listening.sock as sock:
        listening.set_up(service("a", nodelay=False, keepalive=True))
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(
    ("host", "words"),
    [("127.0.0.1", "Address already in use"), ("192.0.2.1", "Cannot assign requested address")],
)
def test_what_cannot_be_bound_is_refused_with_service_and_address(host: str, words: str) -> None:
    with open_listener(service("a"), V4).sock as taken:
        address = Endpoint(host, taken.getsockname()[1])
        with pytest.raises(ResourceError, match=rf"^b: cannot listen on {address}: {words}$"):
            open_listener(service("b"), address)


def test_numbers_are_never_given_twice() -> None:
    one, two = open_listener(service("a"), V4), open_listener(service("a"), V4)
    one.sock.close()
    with two.sock, open_listener(service("a"), V4).sock:
        assert one.number < two.number


def test_a_listener_is_known_by_its_address_whoever_has_it() -> None:
    address = replace(V4, port=25)
    assert keys(service("a", listen=(address,))) == keys(service("b", listen=(address,)))


def test_listeners_on_ports_of_the_kernels_choice_are_distinguished() -> None:
    assert len({*keys(service("a", listen=(V4, V4))), *keys(service("b", listen=(V4,)))}) == 3


# Both families


@contextlib.contextmanager
def bound(
    family: int, host: str, port: int = 0, *, v6only: bool = True, listen: bool = True
) -> Iterator[socket.socket]:
    """Listen as a service manager would."""
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        sock.bind((host, port))
        if listen:
            sock.listen()
        yield sock


@contextlib.contextmanager
def port_of_both_families() -> Iterator[int]:
    """Hold a port in both families, so that no client has it; who sets SO_REUSEADDR may listen there."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with bound(socket.AF_INET6, "::", v6only=False, listen=False) as sock:
        port: int = sock.getsockname()[1]
        yield port


def dual(port: int) -> Endpoint:
    return replace(DUAL, port=port)


def passing(*socks: socket.socket) -> Passed:
    return Passed([("any.socket", sock.dup()) for sock in socks])


def acquired(table: ListenerTable, address: Endpoint) -> tuple[list[HeldListener], list[Completed]]:
    listeners: dict[Key, list[HeldListener]] = {}
    completed = table.acquire([service("a", listen=(address,))], listeners)
    ((key, found),) = listeners.items()
    assert key[0] == address
    return found, completed


@pytest.mark.parametrize(
    ("family", "host", "missing"),
    [(socket.AF_INET, "0.0.0.0", "[::]"), (socket.AF_INET6, "::", "0.0.0.0")],
)
def test_of_a_listener_for_both_families_what_was_not_passed_is_bound(
    family: int, host: str, missing: str
) -> None:
    with port_of_both_families() as port, bound(family, host, port) as sock:
        listeners, completed = acquired(ListenerTable(passing(sock)), dual(port))
        assert len({listening.number for listening in listeners}) == 2
        for one in ("127.0.0.1", "::1"):
            socket.create_connection((one, port)).close()
        assert [address_of(item.sock) for item in listeners] == [completed[0].passed, completed[0].bound]
        assert str(completed[0].bound) == f"{missing}:{port}"
        assert (completed[0].service, completed[0].address) == ("a", dual(port))
        for listening in listeners:
            listening.sock.close()


def test_both_halves_that_were_passed_are_taken_as_they_are() -> None:
    """The service manager keeps both, so that the next master gets both."""
    with (
        port_of_both_families() as port,
        bound(socket.AF_INET, "0.0.0.0", port) as sock,
        bound(socket.AF_INET6, "::", port) as other,
    ):
        listeners, completed = acquired(ListenerTable(passing(other, sock)), dual(port))
        assert sorted(str(address_of(item.sock)) for item in listeners) == [
            f"0.0.0.0:{port}", f"[::]:{port}"
        ]  # fmt: skip
        assert completed == []
        for listening in listeners:
            listening.sock.close()


def test_a_socket_for_both_families_is_enough() -> None:
    with port_of_both_families() as port, bound(socket.AF_INET6, "::", port, v6only=False) as sock:
        (listening,), completed = acquired(ListenerTable(passing(sock)), dual(port))
        assert listens_on(listening.sock, dual(port))
        assert completed == []
        listening.sock.close()


def test_a_listener_of_two_sockets_is_one_in_every_other_way() -> None:
    with port_of_both_families() as port, bound(socket.AF_INET, "0.0.0.0", port) as sock:
        a = service("a", listen=(dual(port),))
        table, found = ListenerTable(passing(sock)), dict[Key, list[HeldListener]]()
        table.acquire([a], found)
        assert table.add(found) == []
        assert len(table.of(a)) == 2
        again = ListenerTable.from_state(table.to_state())
        assert [item.number for item in again.of(a)] == [item.number for item in table.of(a)]
        for listening in again:
            listening.sock.detach()
        table.keep([a])
        assert len([*table]) == 2
        table.keep([])
        assert [*table] == []


def test_what_was_passed_and_is_in_the_way_is_named() -> None:
    with bound(socket.AF_INET, "127.0.0.1") as sock:
        port = sock.getsockname()[1]
        table = ListenerTable(passing(sock))
        with pytest.raises(ResourceError) as refused:
            acquired(table, dual(port))
        assert str(refused.value) == (
            f"a: cannot listen on *:{port}: Address already in use. "
            f"The service manager has passed a socket for 127.0.0.1:{port}, which no service has"
        )
        assert table.add({}) == [f"127.0.0.1:{port}"]
