"""The variables of a connection, byte for byte."""

from ucspid.environ import NAMES, local_variables, variables


def parsed(told: bytes) -> dict[str, str]:
    return dict(item.decode().split("=", 1) for item in told.split(b"\0"))


def test_an_ipv4_connection() -> None:
    told = variables(local_variables("192.0.2.1", 25), "198.51.100.7", 40000, 0xABC)
    assert parsed(told) == {
        "PROTO": "TCP",
        "TCPLOCALIP": "192.0.2.1",
        "TCPLOCALPORT": "25",
        "TCPREMOTEIP": "198.51.100.7",
        "TCPREMOTEPORT": "40000",
        "UCSPID_CONN_ID": "abc",
    }


def test_an_ipv6_connection_is_tcp_as_well() -> None:
    told = parsed(variables(local_variables("2001:db8::1", 25), "2001:db8::2", 1, 1))
    assert (told["PROTO"], told["TCPREMOTEIP"]) == ("TCP", "2001:db8::2")


def test_all_that_is_told_is_on_the_list_of_what_may_be_told_and_the_other_way_round() -> None:
    assert tuple(parsed(variables(local_variables("::1", 1), "::1", 2, 3))) == NAMES
