"""Which addresses count as one client, and as what a client is shown."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.net.client import client_key, client_network, client_text, clients_of
from ucspid.net.unix import UnixClient, parse_client

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def bare(ip: str) -> Address:
    """Return the address without scope and mapping, as the standard library sees it."""
    address = ip_address(ip.partition("%")[0])
    return (address.version == 6 and address.ipv4_mapped) or address


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
    assert str(client_network(ip, ipv4_prefix, ipv6_prefix)) == shown


def test_over_unix_sockets_a_user_is_a_client_whatever_its_groups_and_processes() -> None:
    keys = {client_key(UnixClient.of(7, gid, pid), 8, 16) for gid in (1, 2) for pid in (1, 2)}
    assert keys == {"unix:uid=7"}
    assert client_key(UnixClient.of(8, 1, 1), 8, 16) not in keys
    assert client_text(UnixClient.of(7, 1), 8, 16) == "unix:uid=7"


@pytest.mark.parametrize(
    ("text", "seven", "eight", "address"),
    [
        ("unix:", True, True, False),
        ("unix:uid=7", True, False, False),
        ("192.0.2.0/24", False, False, True),
    ],
)
def test_clients_are_chosen_by_network_or_by_user(text: str, seven: bool, eight: bool, address: bool) -> None:
    chosen = clients_of(text)
    asked = (UnixClient.of(7, 1), UnixClient.of(8, 1), "192.0.2.1")
    assert [client in chosen for client in asked] == [seven, eight, address]


@pytest.mark.parametrize("text", ["unix:7", "unix:uid=", "unix:uid=07", "unix:uid=4294967296", "unix:gid=7"])
def test_what_chooses_nobody_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unix:uid=NUMBER"):
        clients_of(text)
    with pytest.raises(ValueError, match="unix:uid=NUMBER"):
        parse_client(text)


def test_a_client_is_named_with_its_group_or_without() -> None:
    assert parse_client("unix:uid=7") == (7, None)
    assert parse_client("unix:uid=7,gid=8") == (7, 8)
