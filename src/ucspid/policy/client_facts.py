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
