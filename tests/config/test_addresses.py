import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.config.listeners import Listeners
from ucspid.net.endpoint import Endpoint, Family

HOSTS: dict[Family, list[str]] = {
    "dual": [""],
    "inet": ["0.0.0.0", "127.0.0.1", "127.0.0.2"],
    "inet6": ["::", "::1"],
}
Kind = tuple[Family, str]
KINDS: list[Kind] = [(family, host) for family, hosts in HOSTS.items() for host in hosts]
ADDRESSES = st.builds(
    lambda kind, port: Endpoint(kind[1], port),
    st.sampled_from(KINDS),
    st.integers(0, 2),
)


def listen(kind: Kind, port: int) -> socket.socket | None:
    family, host = kind
    opened = socket.socket(socket.AF_INET if family == "inet" else socket.AF_INET6)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family != "inet":
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, family == "inet6")
    try:
        opened.bind((host, port))
        opened.listen()
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            return None
        pytest.skip(f"{host}: {error}")
    return opened


def kernel_refuses(first: Kind, second: Kind) -> bool:
    """Return whether the second cannot be bound beside the first.

    A port may just be some client's at the second address; a hundred will not, however busy the host is.
    """
    for _ in range(100):
        opened = listen(first, 0)
        assert opened is not None
        with opened:
            other = listen(second, opened.getsockname()[1])
        if other is not None:
            other.close()
            return False
    return True


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_two_addresses_clash_exactly_where_the_kernel_says_so(first: Kind, second: Kind) -> None:
    listeners = Listeners()
    assert listeners.take(Endpoint(first[1], 2525), "a") is None
    clash = listeners.take(Endpoint(second[1], 2525), "b")
    assert (clash is not None) == kernel_refuses(first, second)


def clashes(one: Endpoint, other: Endpoint) -> bool:
    families = {"dual": {"inet", "inet6"}, "inet": {"inet"}, "inet6": {"inet6"}}
    wildcards = {"", "0.0.0.0", "::"}
    return (
        one.port == other.port != 0
        and bool(families[one.family] & families[other.family])
        and (one.host == other.host or one.host in wildcards or other.host in wildcards)
    )


@given(st.lists(ADDRESSES, max_size=12))
def test_an_address_is_taken_unless_one_taken_before_is_in_its_way(addresses: list[Endpoint]) -> None:
    listeners = Listeners()
    taken: list[Endpoint] = []
    for index, address in enumerate(addresses):
        clash = listeners.take(address, str(index))
        assert (clash is not None) == any(clashes(address, each) for each in taken)
        if clash is None:
            taken.append(address)
        else:
            assert clash[0] in taken
            assert clashes(address, clash[0])
