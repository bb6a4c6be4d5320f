"""The keys of session tickets: the same in all TLS processes, another every four hours, none kept for long.

All are derived from a secret that each period replaces by a hash of itself: who learns it can read tickets
from then on, but not those of the periods before. So no process has to be sent anything when the keys change.
Each context has keys of its own: a session that began without a client's certificate cannot go on where one
is required.

Pure. The callers give the time: seconds of the epoch.
"""

from typing import NamedTuple

PERIOD = 4 * 3600
"""Seconds after which other keys are used.

Those of the period before still open tickets, which are valid for two hours."""

SECRET_SIZE = 32


class TicketSecret(NamedTuple):
    """What keys of a period and of all later ones are derived from."""

    period: int
    secret: bytes

    @classmethod
    def first(cls, secret: bytes, now: float) -> "TicketSecret":
        """Return the one that a daemon begins with: no step is made for the periods before."""
        return cls(int(now) // PERIOD, secret)

    def at(self, now: float) -> "TicketSecret":
        """Return that of the period that it is; the same if that is past."""
        period, secret = self
        while period < int(now) // PERIOD:
            period, secret = period + 1, _derived(secret, b"next")
        return TicketSecret(period, secret)

    def key(self, context: int) -> "TicketKey":
        """Return the key of the period for tickets of a context, by its number."""
        parts = [
            _derived(self.secret, b"%b%d" % (purpose, context)) for purpose in (b"name", b"cipher", b"mac")
        ]
        return TicketKey(parts[0][:16], parts[1], parts[2])


class TicketKey(NamedTuple):
    """A name of 16 bytes, which is in each ticket, and keys of 32 bytes for AES-256 and HMAC-SHA256."""

    name: bytes
    cipher: bytes
    mac: bytes


class TicketKeys:
    """The keys in use."""

    def __init__(self, secret: TicketSecret) -> None:
        """Begin in the period of the secret."""
        self._previous: TicketSecret | None = None
        self._secret = secret
        self._derived: dict[tuple[int, int], TicketKey] = {}

    def turn(self, now: float) -> None:
        """Go on to the period that it is."""
        if int(now) // PERIOD > self._secret.period:
            following = self._secret.at(now)
            last = self._secret.at((following.period - 1) * PERIOD)
            self._previous, self._secret = last, following
            self._derived.clear()

    def sealing(self, context: int) -> TicketKey:
        """Return the key for new tickets of a context."""
        return self._key(self._secret, context)

    def _key(self, secret: TicketSecret, context: int) -> TicketKey:
        """Return a key, which is derived once in a period."""
        key = self._derived.get((secret.period, context))
        if key is None:
            key = self._derived[secret.period, context] = secret.key(context)
        return key

    def opening(self, context: int, name: bytes) -> TicketKey | None:
        """Return the key with a name, if it is one that still opens tickets of a context."""
        for secret in (self._secret, self._previous):
            if secret is not None and (key := self._key(secret, context)).name == name:
                return key
        return None


def _derived(secret: bytes, purpose: bytes) -> bytes:
    import hmac  # noqa: PLC0415 - with OpenSSL's library it is half a megabyte of a master without TLS

    return hmac.digest(secret, purpose, "sha256")
