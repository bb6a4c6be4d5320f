"""The names of one connection, found together within one deadline."""

from dataclasses import dataclass

from ucspid.plan import Lookup


@dataclass(frozen=True, slots=True)
class Found:
    """What was found; None is what was not."""

    remote_host: bytes | None
    local_host: bytes | None
    info: bytes | None


NOTHING = Found(None, None, None)


class Names:
    """Finds names."""

    def cached(self, lookup: Lookup, local: tuple[str, int], remote: tuple[str, int]) -> Found | None:
        """Return what is known without asking anybody, None if something must be asked."""
        return NOTHING

    async def find(self, lookup: Lookup, local: tuple[str, int], remote: tuple[str, int]) -> Found:
        """Return what can be found within the deadline."""
        return NOTHING
