"""Addresses and networks: parsed in one way, printed in one way, compared as the standard library does."""

from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracing import lines_run
from ucspid.net.address import (
    Network,
    Networks,
    network_of,
    parse_address,
    parse_network,
    plain,
    reverse_name,
)

Address = IPv4Address | IPv6Address
StandardNetwork = IPv4Network | IPv6Network


def bare(ip: str) -> Address:
    """Return the address without scope and mapping, as the standard library sees it."""
    address = ip_address(ip.partition("%")[0])
    return (address.version == 6 and address.ipv4_mapped) or address


def meant(network: StandardNetwork) -> StandardNetwork:
    """Return the IPv4 network for one of mapped addresses, any other as it is."""
    if network.version == 4 or network.prefixlen < 96 or network.network_address.ipv4_mapped is None:
        return network
    return ip_network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")


def near(ip: Address, bit: int) -> Address:
    return type(ip)(int(ip) ^ (1 << bit % ip.max_prefixlen))


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
        ("fe80::1%1", "fe80::1%1 names an interface"),
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


@given(st.ip_addresses())
def test_an_address_reads_as_it_is_written(ip: Address) -> None:
    assert ip_address(str(parse_address(str(ip)))) == bare(str(ip))


@given(st.ip_addresses())
def test_the_name_of_an_address_is_looked_up_where_the_standard_library_does(ip: Address) -> None:
    assert reverse_name(str(ip)) == bare(str(ip)).reverse_pointer


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::1", "::1"),
    ],
)
def test_plain(ip: str, expected: str) -> None:
    assert plain(ip) == expected


def test_networks() -> None:
    networks = Networks(["127.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "2001:db8::/32", "::1"])
    inside = ["127.0.0.1", "::ffff:127.1.2.3", "10.1.255.255", "192.0.2.1", "2001:db8::1", "::1", "::1%lo"]
    outside = ["128.0.0.1", "10.2.0.0", "192.0.2.2", "2001:db9::1", "::2", "::ffff:128.0.0.1"]
    assert [ip for ip in inside + outside if ip in networks] == inside


def test_no_networks_hold_nothing() -> None:
    assert "127.0.0.1" not in Networks([])


def test_ipv6_networks_hold_no_ipv4() -> None:
    everything = Networks(["::/0"])
    assert "2001:db8::1" in everything
    assert "192.0.2.1" not in everything
    assert "::ffff:192.0.2.1" not in everything
    assert "192.0.2.1" not in Networks(["::ffc0:0:0/90"])


def test_a_mapped_network_is_ipv4() -> None:
    networks = Networks(["::ffff:10.0.0.0/104"])
    assert "10.1.2.3" in networks
    assert "11.1.2.3" not in networks
    assert "192.0.2.1" in Networks(["::ffff:0:0/96"])


@given(
    st.lists(st.tuples(st.ip_addresses(), st.integers(0, 128)), max_size=5),
    st.ip_addresses(),
    st.integers(0, 127),
)
def test_networks_hold_what_the_standard_library_says(
    parts: list[tuple[Address, int]], stranger: Address, bit: int
) -> None:
    networks = [ip_network(f"{ip}/{prefix % (ip.max_prefixlen + 1)}", strict=False) for ip, prefix in parts]
    subject = Networks(str(network) for network in networks)
    for ip in [stranger, *(near(ip, bit) for ip, _ in parts)]:
        assert (str(ip) in subject) == any(bare(str(ip)) in meant(network) for network in networks)


def test_asking_costs_by_prefix_lengths_not_by_networks() -> None:
    few, networks = (
        Networks([f"10.0.{i // 256}.{i % 256}/32" for i in range(count)] + ["10.1.0.0/16"])
        for count in (1, 1000)
    )
    assert "10.0.3.231" in networks
    assert "10.0.3.232" not in networks
    asks = [lines_run(partial(each.__contains__, "10.0.3.232")) for each in (few, networks)]
    assert asks[0] == asks[1]


def test_asking_for_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        _ = "localhost" in Networks(["10.0.0.0/8"])
