"""What was found out about the two ends of a connection. No I/O, and nothing imported that has any."""

from typing import NamedTuple


class ClientFacts(NamedTuple):
    """Names and the ident user; None where there is none, or none was found in time.

    An empty info means that the client's ident server answered with an error.
    """

    remote_host: bytes | None = None
    local_host: bytes | None = None
    info: bytes | None = None


NO_FACTS = ClientFacts()


class TlsFacts(NamedTuple):
    """What a handshake has shown: the name that the client asked for, and its certificate, if it has one.

    Of that, the alternative names in lower case, and the fingerprint by SHA-256 in hexadecimal digits.
    """

    sni: bytes | None = None
    names: tuple[bytes, ...] = ()
    fingerprint: bytes | None = None


NO_TLS = TlsFacts()
