"""An end without close_notify is seen as such, whatever the Python."""

import ssl

import pytest

from tls_contexts import server
from ucspid.tls import truncation


def raised(**options: int) -> ssl.SSLError:
    """Return what OpenSSL makes of a connection that ends at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= options.get("set", 0)
    truncation.reveal(context)
    incoming = ssl.MemoryBIO()
    incoming.write_eof()
    with pytest.raises(ssl.SSLError) as caught:
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="mail.example.org").do_handshake()
    return caught.value


def test_the_end_of_a_connection_is_told_apart_from_an_orderly_one() -> None:
    assert truncation.is_truncation(raised(set=ssl.OP_IGNORE_UNEXPECTED_EOF))


def test_both_ways_in_which_pythons_say_so_are_known() -> None:
    old = ssl.SSLError(1, "[SSL: UNEXPECTED_EOF_WHILE_READING] unexpected eof while reading (_ssl.c:2546)")
    old.reason = "UNEXPECTED_EOF_WHILE_READING"
    assert truncation.is_truncation(old)
    assert truncation.is_truncation(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))


def test_another_problem_is_none() -> None:
    other = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    other.reason = "WRONG_VERSION_NUMBER"
    assert not truncation.is_truncation(other)


def test_the_contexts_of_services_reveal_it() -> None:
    context = server("mail").find("mail.example.org")
    assert context is not None
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
