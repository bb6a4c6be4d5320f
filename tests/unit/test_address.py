from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.net.address import Networks, client_key, endpoint, network_text, plain

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def bare(ip: str) -> Address:
    """Return the address without scope and mapping, as the standard library sees it."""
    address = ip_address(ip.partition("%")[0])
    return (address.version == 6 and address.ipv4_mapped) or address


def meant(network: Network) -> Network:
    """Return the IPv4 network for one of mapped addresses, any other as it is."""
    if network.version == 4 or network.prefixlen < 96 or network.network_address.ipv4_mapped is None:
        return network
    return ip_network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")


def near(ip: Address, bit: int) -> Address:
    return type(ip)(int(ip) ^ (1 << bit % ip.max_prefixlen))


any_ip = st.one_of(
    st.ip_addresses(),
    st.ip_addresses(v=4).map(lambda ip: ip_address(f"::ffff:{ip}")),
    st.ip_addresses(v=6, network="::/64"),
)
pairs = st.one_of(
    st.tuples(any_ip, any_ip),
    st.builds(lambda ip, bit: (ip, near(ip, bit)), any_ip, st.integers(0, 127)),
)


@given(pairs, st.integers(0, 32), st.integers(0, 128))
def test_two_addresses_are_one_client_exactly_if_their_networks_are_one(
    pair: tuple[Address, Address], ipv4_prefix: int, ipv6_prefix: int
) -> None:
    def network(ip: Address) -> Network:
        address = bare(str(ip))
        prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
        return ip_network(f"{address}/{prefix}", strict=False)

    one, other = pair
    same_key = client_key(str(one), ipv4_prefix, ipv6_prefix) == client_key(
        str(other), ipv4_prefix, ipv6_prefix
    )
    assert same_key == (network(one) == network(other))


def test_a_whole_ipv4_address_is_its_own_key() -> None:
    ip = "192.0.2.1"
    assert client_key(ip, 32, 64) is ip
    assert client_key("::ffff:192.0.2.1", 32, 64) == client_key("::FFFF:c000:201", 32, 64) == ip


def test_scopes_do_not_make_clients() -> None:
    assert client_key("fe80::1%eth0", 32, 128) == client_key("fe80::1%eth1", 32, 128)


def test_keys_of_the_widest_prefixes_keep_the_families_apart() -> None:
    assert client_key("0.0.0.0", 0, 0) != client_key("::", 0, 0)


@pytest.mark.parametrize("text", ["::g", "1.2.3.4:5"])
def test_what_is_no_address_has_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        client_key(text, 32, 64)


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
    networks = Networks(["127.0.0.0/8", "10.1.2.3/16", "192.0.2.1", "2001:db8::/32", "::1"])
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
    assert "192.0.2.1" not in Networks(["::ffff:0:0/90"])


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
    networks = Networks([f"10.0.{i // 256}.{i % 256}/32" for i in range(1000)] + ["10.1.0.0/16"])
    assert len(networks._ipv4) == 2
    assert "10.0.3.231" in networks
    assert "10.0.3.232" not in networks


@pytest.mark.parametrize("text", ["10.0.0.0/33", "::/129", "10.0.0/8", "localhost"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Networks([text])


def test_asking_for_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        _ = "localhost" in Networks(["10.0.0.0/8"])


@pytest.mark.parametrize(
    ("ip", "shown"),
    [
        ("192.0.2.7", "192.0.2.7:25"),
        ("::ffff:127.0.0.1", "127.0.0.1:25"),
        ("::FFFF:7f00:1", "127.0.0.1:25"),
        ("2001:DB8::0007", "[2001:db8::7]:25"),
        ("fe80::1%eth0", "[fe80::1]:25"),
    ],
)
def test_an_endpoint_is_shown_in_one_way(ip: str, shown: str) -> None:
    assert endpoint(ip, 25) == shown


@pytest.mark.parametrize(
    ("ip", "ipv4_prefix", "ipv6_prefix", "shown"),
    [
        ("192.0.2.7", 32, 64, "192.0.2.7"),
        ("192.0.2.7", 24, 64, "192.0.2.0/24"),
        ("::ffff:192.0.2.7", 8, 64, "192.0.0.0/8"),
        ("2001:db8:1:2:3::7", 32, 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::7", 32, 128, "2001:db8:1:2:3::7"),
        ("::1", 32, 64, "::/64"),
    ],
)
def test_a_client_is_shown_as_what_it_counts_as(
    ip: str, ipv4_prefix: int, ipv6_prefix: int, shown: str
) -> None:
    assert network_text(ip, ipv4_prefix, ipv6_prefix) == shown
