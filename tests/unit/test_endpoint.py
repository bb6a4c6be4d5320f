"""An address and a port: written, printed and read in one way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.net.endpoint import Endpoint, Family, endpoint, host_of, parse_port, split
from ucspid.net.unix import UnixClient


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
    ("host", "family", "text"),
    [
        ("", "dual", "*:25"),
        ("0.0.0.0", "inet", "0.0.0.0:25"),
        ("127.0.0.1", "inet", "127.0.0.1:25"),
        ("::", "inet6", "[::]:25"),
        ("::1", "inet6", "[::1]:25"),
    ],
)
def test_an_endpoint_has_a_family_and_a_text_that_is_read_back(host: str, family: Family, text: str) -> None:
    where = Endpoint(host, 25)
    assert (where.family, str(where)) == (family, text)
    assert Endpoint.parse(text) == where


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [("unix:/run/x.sock", "/run/x.sock", "/run/x.sock"), ("unix:@smtp:25", "@smtp:25", None)],
)
def test_a_unix_socket_is_an_endpoint_without_a_port(text: str, name: str, path: str | None) -> None:
    where = Endpoint.parse(text)
    assert (where.family, str(where), where.name, where.path) == ("unix", text, name, path)
    assert (where.port, where.chosen) == (0, False)
    assert Endpoint.parse("127.0.0.1:0").chosen


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("unix:", "a whole path"),
        ("unix:run/x", "a whole path"),
        ("unix:@", "a whole path"),
        ("unix:/run/x/", "is a directory"),
        ("unix:/a\0b", "a whole path"),
        ("unix:/" + "é" * 54, "109 bytes long"),
    ],
)
def test_what_is_no_path_of_a_socket_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Endpoint.parse(text)


@pytest.mark.parametrize(
    ("shown", "host"),
    [
        ("192.0.2.7:25", "192.0.2.7"),
        ("[2001:db8::7]:25", "2001:db8::7"),
        (endpoint(UnixClient.of(1000, 100, 5), 0), "unix:uid=1000"),
    ],
)
def test_the_address_of_what_is_shown(shown: str, host: str) -> None:
    assert host_of(shown) == host


@given(st.ip_addresses().map(str) | st.just(""), st.integers(0, 65535))
def test_every_endpoint_is_read_back_from_its_text(ip: str, port: int) -> None:
    if ":" in ip and ip.lower().startswith("::ffff:"):
        return
    once = Endpoint.parse(f"[{ip}]:{port}" if ":" in ip else f"{ip or '*'}:{port}")
    assert Endpoint.parse(str(once)) == once
    assert once.port == port


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("25", ("", "25")),
        ("smtp", ("", "smtp")),
        ("*:smtp", ("", "smtp")),
        ("127.0.0.1:smtp", ("127.0.0.1", "smtp")),
        ("[2001:DB8::0:1]:25", ("2001:db8::1", "25")),
    ],
)
def test_a_port_may_be_a_name(text: str, parts: tuple[str, str]) -> None:
    assert split(text) == parts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("::1:25", "write an IPv6 address in brackets"),
        ("[::1]", "write an IPv6 address in brackets"),
        ("[::1]25", "write an IPv6 address in brackets"),
        ("localhost:25", "names of hosts are not looked up"),
        ("1.2.3:25", "is not an IPv4 address"),
        ("01.2.3.4:25", "is not an IPv4 address"),
        ("[1.2.3.4]:25", "is not an IPv6 address"),
        ("[::g]:25", "is not an IPv6 address"),
        ("[]:25", "is not an IPv6 address"),
        ("[fe80::1%lo]:25", "names an interface"),
        ("[::ffff:192.0.2.1]:25", r"write the IPv4 address itself: 192\.0\.2\.1"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        split(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", "65536", "99999", "1e3", "\u0661", "smtp", "25\n"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a port"):
        parse_port(text)


@given(st.text(alphabet="0123456789abf:.*[]%g") | st.text())
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    try:
        where = Endpoint.parse(text)
    except ValueError:
        return
    assert Endpoint.parse(str(where)) == where
