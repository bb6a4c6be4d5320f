"""Tags: what a new loop needs of a session comes back as it went, anything else is refused."""

import contextlib
import ipaddress
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.errors import WireError
from ucspid.ipc import session_tag
from ucspid.ipc.messages import TAG_SIZE
from ucspid.net.unix import UnixClient

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)


@given(
    st.floats(0, 1e9),
    st.ip_addresses().filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None).map(str),
    st.integers(0, 65535),
    names,
)
def test_what_is_packed_comes_back(began: float, ip: str, port: int, service: str) -> None:
    tag = session_tag.pack(began, ip, port, service)
    assert len(tag) == TAG_SIZE
    got_began, got_ip, got_port, got_service = session_tag.unpack(tag)
    assert (got_began, got_port, got_service) == (began, port, service)
    assert ipaddress.ip_address(got_ip) == ipaddress.ip_address(ip)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**31 - 1))
def test_a_client_over_a_unix_socket_comes_back_with_its_process(uid: int, gid: int, pid: int) -> None:
    _began, client, port, service = session_tag.unpack(
        session_tag.pack(1.0, UnixClient.of(uid, gid, pid), 0, "s")
    )
    assert isinstance(client, UnixClient)
    assert (client, client.uid, client.gid, client.pid) == (f"unix:uid={uid}", uid, gid, pid)
    assert (port, service) == (0, "s")


@given(st.binary(min_size=TAG_SIZE, max_size=TAG_SIZE))
def test_any_other_bytes_are_a_session_or_refused(tag: bytes) -> None:
    with contextlib.suppress(WireError):
        began, ip, port, service = session_tag.unpack(tag)
        assert math.isfinite(began)
        if not isinstance(ip, UnixClient):
            ipaddress.ip_address(ip)
        assert 0 <= port <= 65535
        assert len(service.encode()) <= 32


@pytest.mark.parametrize("began", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_is_refused(began: float) -> None:
    with pytest.raises(WireError):
        session_tag.unpack(session_tag.pack(began, "::1", 1, "smtp"))
