"""Host names of addresses, and whether a name has an address: asked of the DNS, and kept.

Only the DNS is asked, as tcpserver does, not /etc/hosts. A resolver that answers is trusted; it is the one of
/etc/resolv.conf, followed as that changes.
"""

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiodns import error
from pycares import AAAARecordData, ARecordData, DNSResult, PTRRecordData

from ucspid.inet import pack
from ucspid.lookup.cache import FAILED, LONGEST, NEGATIVE, Breaker, Cache, lifetime
from ucspid.lookup.channel import MOST_RECORDS, Channels
from ucspid.lookup.hostname import hostname

CAPACITY = 4096
"""Answers that are kept."""
MOST_ASKED = 512
"""Questions that may wait for their answers at the same time."""
TEST_TIMEOUT = 2.0
"""Seconds in which a resolver that is alive answers a question about a name that cannot exist."""

_NOTHING_THERE = frozenset({error.ARES_ENOTFOUND, error.ARES_ENODATA, error.ARES_EBADNAME})
_SILENCE = frozenset({error.ARES_ETIMEOUT, error.ARES_ECONNREFUSED})
_NEVER_SENT = frozenset(
    {error.ARES_EBADNAME, error.ARES_ECANCELLED, error.ARES_EDESTRUCTION, error.ARES_EFILE, error.ARES_ENOMEM}
)


class Question(NamedTuple):
    """Without a name: which name does ip have? With one: does name have the address ip?

    ip is an IPv4 address, or an IPv6 address that is not IPv4-mapped; name is an Answer's.
    """

    ip: str
    name: bytes | None = None


class Answer(NamedTuple):
    """The name that was asked for or about; None if there is none, or if none could be had: failed."""

    found: bytes | None
    failed: bool = False


_FAILURE = Answer(None, failed=True)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a resolver keeps and asks."""

    capacity: int = CAPACITY
    most_asked: int = MOST_ASKED
    most_records: int = MOST_RECORDS
    test_timeout: float = TEST_TIMEOUT


class Resolver:
    """Asks the DNS, each question once at a time, and keeps what it answers.

    A dead resolver is not waited for (see Breaker), and no more questions are asked at a time than the
    bound allows: such questions fail at once, and that is not kept.
    """

    def __init__(self, nameservers: Sequence[str] | None = None, bounds: Bounds | None = None) -> None:
        """Take the name servers of /etc/resolv.conf, or others: IP, IP:PORT or [IP]:PORT."""
        self._bounds = bounds or Bounds()
        self._channels = Channels(nameservers, self._bounds.most_records)
        self._cache: Cache[Question, Answer] = Cache(self._bounds.capacity)
        self._breaker = Breaker()
        self._asked: dict[Question, asyncio.Task[Answer]] = {}
        self._test: asyncio.Task[None] | None = None

    def known(self, question: Question) -> Answer | None:
        """Return the answer if it needs no waiting, None otherwise."""
        return self._cache.get(question, time.monotonic())

    async def ask(self, question: Question) -> Answer:
        """Return the answer, after seconds perhaps; never raises.

        Whoever gives up waiting does not stop the question: its answer is kept for the next.
        """
        known = self.known(question)
        if known is not None:
            return known
        task = self._asked.get(question)
        if task is None:
            self._test_if_due()
            if self._breaker.dead or len(self._asked) >= self._bounds.most_asked:
                return _FAILURE
            task = self._asked[question] = asyncio.create_task(self._find(question))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop asking; whoever waits gets a failure."""
        await self._channels.close()
        if self._test is not None:
            await self._test
        await asyncio.gather(*self._asked.values())
