from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.rules.addresses import Network, network_of, parse_address, parse_network
from ucspid.rules.prefixes import PrefixIndex


def networks_of(width: int) -> st.SearchStrategy[Network]:
    lengths = st.integers(0, width)
    return lengths.flatmap(
        lambda length: st.builds(Network, st.just(width), st.just(length), st.integers(0, 2**length - 1))
    )


NETWORKS = networks_of(32) | networks_of(128)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.1", Network(32, 32, 0xC0000201)),
        ("::ffff:192.0.2.1", Network(32, 32, 0xC0000201)),
        ("2001:DB8:0::1", Network(128, 128, 0x20010DB8_00000000_00000000_00000001)),
        ("fe80::1%eth0", Network(128, 128, 0xFE800000_00000000_00000000_00000001)),
    ],
)
def test_an_address_has_one_form(text: str, network: Network) -> None:
    assert parse_address(text) == network


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("0.0.0.0/0", Network(32, 0, 0)),
        ("192.0.2.0/24", Network(32, 24, 0xC00002)),
        ("192.0.2.1", Network(32, 32, 0xC0000201)),
        ("::/0", Network(128, 0, 0)),
        ("2001:db8::/32", Network(128, 32, 0x20010DB8)),
        ("::ffff:192.0.2.0/120", Network(32, 24, 0xC00002)),
        ("::ffff:0:0/96", Network(32, 0, 0)),
        ("::fffe:0:0/95", Network(128, 95, 0x7FFF)),
    ],
)
def test_a_network_is_its_first_bits(text: str, network: Network) -> None:
    assert parse_network(text) == network


@given(NETWORKS)
def test_a_network_is_read_back_from_its_text(network: Network) -> None:
    packed = ip_network(str(network)).network_address.packed
    prefix = bytes(10) + b"\xff\xff" if network.width == 32 else b""
    expected = network_of(prefix + packed, network.length + 8 * len(prefix))
    assert parse_network(str(network)) == expected
    assert ip_network(str(network)) == ip_network(str(expected)) or network.width > expected.width


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.1/24", "192.0.2.1/24 has bits set after its first 24: 192.0.2.0/24 or 192.0.2.1?"),
        ("192.0.2.0/33", "prefix length 33 is over 32"),
        ("::/129", "prefix length 129 is over 128"),
        ("192.0.2.0/", "'' is not a prefix length"),
        ("192.0.2.0/+8", r"'\+8' is not a prefix length"),
        ("192.0.2.0/\u0668", "is not a prefix length"),
        ("192.0.2.0/0000000000000000008", "is not a prefix length"),
        ("192.0.2/24", "not an IP address: '192.0.2'"),
        ("192.0.2.01", "not an IP address"),
        ("2001:db8::1::", "not an IP address"),
        ("fe80::1%1", "an address in a rule has no scope"),
        ("1.2.3.4\0", "not an IP address"),
    ],
)
def test_what_is_no_network_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_network(text)


@given(st.text(alphabet="0123456789abf:./%\0\u0661\ud800") | st.text())
def test_any_text_is_a_network_or_a_value_error(text: str) -> None:
    try:
        network = parse_network(text)
    except ValueError:
        return
    assert network.bits < 2**network.length <= 2**network.width


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
