"""What is known of a connection that is secured by TLS."""

from typing import NamedTuple, Self

from ucspid.ipc.messages import Secured


class OverTls(NamedTuple):
    """What the handshake has shown; local is where the client connected to, since its socket is not here."""

    local: tuple[str, int]
    version: str
    cipher: str
    sni: str | None
    alpn: str | None
    resumed: bool
    fingerprint: str | None
    names: tuple[bytes, ...]
    variables: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of(cls, secured: Secured, local: tuple[str, int]) -> Self:
        """Return what a TLS process has reported."""
        pairs = [(name, value) for name, _, value in (item.partition(b"=") for item in secured.variables)]
        return cls(
            local=local,
            version=secured.version,
            cipher=secured.cipher,
            sni=secured.sni,
            alpn=secured.alpn,
            resumed=secured.resumed,
            fingerprint=secured.fingerprint,
            names=secured.names,
            variables=tuple(pairs),
        )
