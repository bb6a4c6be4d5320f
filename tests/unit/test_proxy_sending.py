"""PROXY headers as they are sent: what the parser makes of them is what the variables say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxy_headers
from ucspid.net.inet import pack
from ucspid.net.proxy_header import Ends, Header, parse
from ucspid.net.proxy_sending import header

IPV4 = {
    "TCPREMOTEIP": "192.0.2.7",
    "TCPREMOTEPORT": "4321",
    "TCPLOCALIP": "198.51.100.1",
    "TCPLOCALPORT": "25",
}
IPV6 = {**IPV4, "TCPREMOTEIP": "2001:db8::7", "TCPLOCALIP": "2001:db8::1"}
TLS = {
    "SSL_PROTOCOL": "TLSv1.3",
    "SSL_CIPHER": "TLS_AES_128_GCM_SHA256",
    "SSL_TLS_SNI_SERVERNAME": "mail.example.org",
    "SSL_ALPN_PROTOCOL": "imap",
}
CERTIFICATE = {"SSL_PEER_CERT_HASH": "SHA256:00", "SSL_PEER_CERT_CN": "client.example.org"}


def read(version: str, variables: dict[str, str]) -> Header:
    data = header(version, variables)
    found = parse(data, (int(version[1:]),))
    assert found is not None
    assert found.size == len(data)
    return found


def ends(variables: dict[str, str]) -> Ends:
    remote = variables["TCPREMOTEIP"], int(variables["TCPREMOTEPORT"])
    return Ends(remote, (variables["TCPLOCALIP"], int(variables["TCPLOCALPORT"])))


def described(variables: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in variables.items()}


@pytest.mark.parametrize("variables", [IPV4, IPV6])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_client_is_who_the_variables_say(version: str, variables: dict[str, str]) -> None:
    found = read(version, variables)
    assert (found.ends, found.local, found.variables) == (ends(variables), False, ())


def test_the_bytes_are_those_of_the_specification() -> None:
    assert header("v1", IPV4) == proxy_headers.v1("192.0.2.7", "198.51.100.1")
    assert header("v1", IPV6) == proxy_headers.v1("2001:db8::7", "2001:db8::1")
    assert header("v2", IPV4) == proxy_headers.tcp4()
    verified = proxy_headers.ssl(cipher=b"TLS_AES_128_GCM_SHA256", name=b"client.example.org")
    alpn = proxy_headers.tlv(proxy_headers.ALPN, b"imap")
    authority = proxy_headers.tlv(proxy_headers.AUTHORITY, b"mail.example.org")
    assert header("v2", IPV4 | TLS | CERTIFICATE) == proxy_headers.tcp4(alpn, authority, verified)


def test_what_is_known_of_tls_goes_along() -> None:
    found = read("v2", IPV4 | TLS | CERTIFICATE)
    assert dict(found.variables) == described(TLS | {"SSL_PEER_CERT_CN": "client.example.org"})
    assert read("v1", IPV4 | TLS).variables == ()


def test_without_a_certificate_nobody_is_verified() -> None:
    data = header("v2", IPV4 | TLS)
    assert b"\1\0\0\0\1" in data
    assert dict(read("v2", IPV4 | TLS).variables) == described(TLS)


@pytest.mark.parametrize("lacking", list(IPV4))
def test_a_client_that_is_not_known_is_none_and_no_health_check(lacking: str) -> None:
    variables = {name: value for name, value in IPV4.items() if name != lacking}
    assert header("v1", variables) == b"PROXY UNKNOWN\r\n"
    found = read("v2", variables | TLS)
    assert (found.ends, found.local) == (None, False)
    assert dict(found.variables) == described(TLS)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_ends_of_different_families_are_both_ipv6(version: str) -> None:
    mixed = IPV6 | {"TCPREMOTEIP": "192.0.2.7"}
    assert read(version, mixed).ends == ends(mixed)


def test_off_is_nothing() -> None:
    assert header("off", IPV4 | TLS) == b""


def test_a_value_that_is_too_long_is_not_sent() -> None:
    found = read("v2", IPV4 | TLS | {"SSL_CIPHER": "x" * 256, "SSL_TLS_SNI_SERVERNAME": "y" * 255})
    assert b"SSL_CIPHER" not in dict(found.variables)
    assert dict(found.variables)[b"SSL_TLS_SNI_SERVERNAME"] == b"y" * 255


@given(
    st.one_of(st.tuples(*2 * [st.ip_addresses(v=4)]), st.tuples(*2 * [st.ip_addresses(v=6)])),
    st.tuples(*2 * [st.integers(0, 65535)]),
    st.sampled_from(["v1", "v2"]),
)
def test_any_two_ends_come_back(
    addresses: tuple[object, object], ports: tuple[int, int], version: str
) -> None:
    (remote, local), (remote_port, local_port) = map(str, addresses), map(str, ports)
    variables = {"TCPREMOTEIP": remote, "TCPREMOTEPORT": remote_port}
    found = read(version, variables | {"TCPLOCALIP": local, "TCPLOCALPORT": local_port}).ends
    assert found is not None
    assert [pack(ip) for ip, _port in found] == [pack(remote), pack(local)]
    assert (found.remote[1], found.local[1]) == ports
