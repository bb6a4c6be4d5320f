"""Which sessions a control client means."""

from typing import Any

import pytest

from ucspid.control.selection import Selection, selection
from ucspid.errors import PeerError

NAMES = {"smtp", "pop3"}
NOW = 1000.0


def meant(
    args: dict[str, Any], service: str = "smtp", ip: str = "192.0.2.7", age: float = 60.0, conn: int = 0xAB
) -> bool:
    return selection(args, NAMES).holds(service, ip, NOW - age, conn, NOW)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, True),
        ({"service": "smtp"}, True),
        ({"service": "pop3"}, False),
        ({"ip": "192.0.2.7"}, True),
        ({"ip": "192.0.2.0/24"}, True),
        ({"ip": "192.0.2.8"}, False),
        ({"ip": "2001:db8::/32"}, False),
        ({"older": 60}, True),
        ({"older": 60.5}, False),
        ({"older": 0}, True),
        ({"conns": ["ab"]}, True),
        ({"conns": ["1", "AB"]}, True),
        ({"conns": ["1"]}, False),
        ({"conns": []}, False),
        ({"service": "smtp", "ip": "192.0.2.0/24", "older": 5, "conns": ["ab"]}, True),
        ({"service": "smtp", "ip": "192.0.2.0/24", "older": 500, "conns": ["ab"]}, False),
    ],
)
def test_a_session_has_to_meet_all_that_is_given(args: dict[str, Any], expected: bool) -> None:
    assert meant(args) is expected


def test_an_ipv4_client_that_is_mapped_is_the_same_client() -> None:
    assert meant({"ip": "192.0.2.0/24"}, ip="::ffff:192.0.2.7")


def test_only_nothing_at_all_means_everything() -> None:
    assert selection({}, NAMES) == Selection()
    assert selection({}, NAMES).everything
    assert not selection({"older": 0}, NAMES).everything
    assert not selection({"conns": []}, NAMES).everything


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"service": "imap"}, "there is no service 'imap': pop3, smtp"),
        ({"service": 5}, "there is no service 5"),
        ({"ip": 5}, "an address or a network"),
        ({"ip": "192.0.2.7/24"}, "bits set"),
        ({"ip": "mail.example.org"}, "not an IP address"),
        ({"older": "1h"}, "seconds"),
        ({"older": -1}, "seconds"),
        ({"older": float("inf")}, "seconds"),
        ({"conns": "ab"}, "a list"),
        ({"conns": [171]}, "hexadecimal"),
        ({"conns": ["xyz"]}, "hexadecimal"),
    ],
)
def test_what_cannot_be_meant_is_refused(args: dict[str, Any], why: str) -> None:
    with pytest.raises(PeerError, match=why):
        selection(args, NAMES)
