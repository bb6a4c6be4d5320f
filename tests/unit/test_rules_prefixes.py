"""Rules by network: the longest prefix for tcprules, the first rule for YAML."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from ucspid.net.address import Network, parse_address, parse_network
from ucspid.rules.prefixes import PrefixIndex


def networks_of(width: int) -> st.SearchStrategy[Network]:
    lengths = st.integers(0, width)
    return lengths.flatmap(
        lambda length: st.builds(Network, st.just(width), st.just(length), st.integers(0, 2**length - 1))
    )


NETWORKS = networks_of(32) | networks_of(128)


@given(st.lists(NETWORKS, max_size=20), st.data())
def test_the_index_finds_the_longest_prefix_and_the_lowest_number(
    networks: list[Network], data: st.DataObject
) -> None:
    index = PrefixIndex()
    for number, network in enumerate(networks):
        index.add(network, number)
    inside = st.sampled_from(networks) if networks else st.just(Network(32, 0, 0))
    network = data.draw(inside)
    free = network.width - network.length
    value = (network.bits << free) + data.draw(st.integers(0, 2**free - 1))
    address = Network(network.width, network.width, value)
    ip = ip_address(str(address).partition("/")[0])

    matching = [
        (-other.length, number)
        for number, other in enumerate(networks)
        if other.width == network.width and ip in ip_network(str(other))
    ]

    assert index.longest(address) == (min(matching)[1] if matching else None)
    assert index.lowest(address, 99) == min((number for _, number in matching), default=99)


def test_an_address_in_no_network_has_no_rule() -> None:
    index = PrefixIndex()
    index.add(parse_network("192.0.2.0/24"), 0)
    assert index.longest(parse_address("192.0.3.0")) is None
    assert index.longest(parse_address("::c000:201")) is None
    assert index.lowest(parse_address("192.0.3.0"), 7) == 7
