"""What a balancer said of a connection."""

from typing import NamedTuple

from ucspid.net.endpoint import endpoint
from ucspid.net.unix import UnixClient
from ucspid.policy.environ import proxy_variables


class Proxied(NamedTuple):
    """The balancer's own end of the connection, and what its header says: see net.proxy_header.

    local is where the client connected to, None if the balancer does not say.
    """

    ip: str
    port: int
    local: tuple[str, int] | None
    described: tuple[tuple[bytes, bytes], ...]
    unique_id: bytes

    @property
    def balancer(self) -> str:
        """The balancer's address and port as logs show them."""
        return endpoint(self.ip, self.port)

    @property
    def variables(self) -> tuple[tuple[bytes, bytes], ...]:
        """What the program is told: see policy.environ.PROXY_NAMES."""
        if isinstance(self.ip, UnixClient):  # it has neither an address nor a port
            return self.described
        return *proxy_variables(self.ip, str(self.port)), *self.described
