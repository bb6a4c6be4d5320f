"""How the event loop is: what it answers when the master asks whether it still turns.

It goes as a note: a number, and a token that has three more in it. The loop is not trusted with more.
"""

from ucspid.errors import WireError
from ucspid.records import dataclass

TROUBLES = ("throttled", "accept_failed", "rules", "paused", "daemon_full", "full")
"""What may be wrong with a service, the worst first; as docs/internals.md has it."""

MAX_SERVICES = 0xFFFF


@dataclass(frozen=True, slots=True)
class Condition:
    """How many sessions live, how many services are in trouble; of these the worst, and what it has."""

    live: int
    troubled: int = 0
    service: int = 0
    trouble: str = ""

    def to_note(self) -> tuple[int, int]:
        """Return number and token of the note."""
        if not self.troubled:
            return self.live, 0
        kind = TROUBLES.index(self.trouble)
        return self.live, min(self.troubled, MAX_SERVICES) << 48 | kind << 32 | self.service

    @classmethod
    def from_note(cls, number: int, token: int) -> "Condition":
        """Read a note. Raises WireError for one that to_note() does not make."""
        troubled, kind, service = token >> 48, token >> 32 & 0xFFFF, token & 0xFFFFFFFF
        if not troubled:
            if token:
                raise WireError("it says what is wrong with no service")
            return cls(number)
        if kind >= len(TROUBLES):
            raise WireError(f"it says that a service has trouble {kind}")
        return cls(number, troubled, service, TROUBLES[kind])
