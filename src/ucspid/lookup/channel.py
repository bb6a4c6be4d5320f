"""Questions to the DNS, through c-ares.

A channel of c-ares has a thread that waits for answers and for changes of /etc/resolv.conf, and
sleeps otherwise. It also keeps all answers in a cache of its own, for up to an hour and without
a bound, and has no setting against that. Clients influence what is asked, and could fill the
memory. So a channel is replaced after so many records, and its cache goes with it.
"""

from collections.abc import Sequence

import aiodns
from aiodns import error
from pycares import DNSResult

TRIES = 2
"""How often each server is asked: the second time it may take twice as long."""


class _QueryChannel:
    __slots__ = ("records", "resolver", "waiting")

    def __init__(self, nameservers: Sequence[str] | None, timeout: float) -> None:
        self.resolver = aiodns.DNSResolver(nameservers, timeout=timeout, tries=TRIES)
        self.records = 0
        self.waiting = 0


class Channels:
    """The channel that is in use, and those before it that still wait for answers."""

    def __init__(self, nameservers: Sequence[str] | None, timeout: float, max_records: int) -> None:
        """Take the name servers of /etc/resolv.conf, or others: IP, IP:PORT or [IP]:PORT.

        timeout is that of the first round in seconds, max_records the size of a channel's cache.

        The first question opens a channel; until then there is no thread, and nothing is read.
        """
        self._nameservers = nameservers
        self._timeout = timeout
        self._max_records = max_records
        self._channels: set[_QueryChannel] = set()
        self._current: _QueryChannel | None = None
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether no channel is open."""
        return not self._channels

    async def query(self, name: str, kind: str) -> DNSResult:
        """Ask for records of a kind: PTR, A or AAAA. Raises aiodns.error.DNSError."""
        if self._closed:
            raise error.DNSError(error.ARES_EDESTRUCTION, "closed")
        channel = self._current or self._open()
        channel.waiting += 1
        try:
            result: DNSResult = await channel.resolver.query_dns(name, kind)
            channel.records += len(result.answer) + len(result.authority) + len(result.additional)
        finally:
            channel.waiting -= 1
            channel.records += 1
            await self._tidy(channel)
        return result

    async def close(self) -> None:
        """Close all channels; what is asked, or will be, fails."""
        self._closed = True
        self._current = None
        while self._channels:
            await self._channels.pop().resolver.close()

    def _open(self) -> _QueryChannel:
        channel = self._current = _QueryChannel(self._nameservers, self._timeout)
        self._channels.add(channel)
        return channel

    async def _tidy(self, channel: _QueryChannel) -> None:
        """Close a channel that is to be replaced, as soon as nothing waits for it any more."""
        if channel.records >= self._max_records and self._current is channel:
            self._current = None
        if channel is not self._current and not channel.waiting and channel in self._channels:
            self._channels.remove(channel)
            await channel.resolver.close()
