"""What a service asks for about the two ends of a connection, looked up at the same time.

Addresses are the text that accept(2) and getsockname(2) give, without IPv4 mapping and scope id.
"""

import asyncio
from collections.abc import Coroutine, Mapping

from ucspid.lookup.dns import DnsAnswer, Question, Resolver
from ucspid.lookup.ident import Ident
from ucspid.plan import Lookup
from ucspid.policy.client_facts import ClientFacts

End = tuple[str, int]
"""An address and a port."""

_NONE = DnsAnswer(None)


class Names:
    """Looks up the names of connections' ends, and their ident users."""

    def __init__(self, resolver: Resolver, ident: Ident) -> None:
        """Take who is asked."""
        self._resolver = resolver
        self._ident = ident

    @classmethod
    def asking(cls, nameservers: list[str]) -> "Names":
        """Ask these name servers, or those of resolv.conf(5) if there are none, and ident servers."""
        return cls(Resolver(nameservers or None), Ident())

    @property
    def idle(self) -> bool:
        """Whether the resolver has nothing open."""
        return self._resolver.idle

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many questions about names had which outcome."""
        return self._resolver.outcomes

    def cached(self, lookup: Lookup, local: End, remote: End) -> ClientFacts | None:
        """Return what find() would return, if that is known without waiting; None otherwise."""
        if lookup.ident:
            return None
        remote_host = self._known(remote[0], lookup.paranoid) if lookup.remote_host else _NONE
        local_host = self._known(local[0]) if lookup.local_ptr else _NONE
        if remote_host is None or local_host is None:
            return None
        return ClientFacts(remote_host.found, _given(lookup, local_host.found))

    async def find(self, lookup: Lookup, local: End, remote: End, seconds: float) -> ClientFacts:
        """Return what is found out within so many seconds; what takes longer is left out."""
        parts: dict[str, Coroutine[None, None, bytes | None]] = {}
        if lookup.remote_host:
            parts["remote_host"] = self._name(remote[0], lookup.paranoid)
        if lookup.local_ptr:
            parts["local_host"] = self._name(local[0])
        if lookup.ident:
            parts["info"] = self._info(lookup, local, remote)
        found = ClientFacts(local_host=_given(lookup, None))
        return found._replace(**await _finished(parts, seconds)) if parts else found

    async def close(self) -> None:
        """Stop asking for names; what is still looked up is not found."""
        await self._resolver.close()

    async def _info(self, lookup: Lookup, local: End, remote: End) -> bytes | None:
        """Return the client's user, if its ident server says within its time who that is."""
        try:
            async with asyncio.timeout(lookup.ident_timeout):
                return await self._ident.ask(
                    local[0], remote[0], local[1], remote[1], strict=not lookup.any_ident_reply
                )
        except TimeoutError:
            return None

    def _known(self, ip: str, paranoid: bool = False) -> DnsAnswer | None:
        answer = self._resolver.known(Question(ip))
        if not paranoid or answer is None or answer.found is None:
            return answer
        return self._resolver.known(Question(ip, answer.found))

    async def _name(self, ip: str, paranoid: bool = False) -> bytes | None:
        """Return the name of ip; if paranoid, only one that has the address ip."""
        answer = await self._resolver.ask(Question(ip))
        if not paranoid or answer.found is None:
            return answer.found
        return (await self._resolver.ask(Question(ip, answer.found))).found


def _given(lookup: Lookup, found: bytes | None) -> bytes | None:
    """Return the local host name that the file gives, or else the one that was found."""
    return found if lookup.local_host is None else lookup.local_host.encode("utf-8", "surrogateescape")


async def _finished(
    parts: dict[str, Coroutine[None, None, bytes | None]], seconds: float
) -> dict[str, bytes | None]:
    """Return the results that are there after so many seconds at most; the others are cancelled."""
    tasks = {asyncio.create_task(part): name for name, part in parts.items()}
    try:
        done, late = await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
    if late:
        await asyncio.wait(late)
    return {tasks[task]: task.result() for task in done}
