"""Host names of addresses, and whether a name has an address: asked of the DNS, and kept.

Only the DNS is asked, as by tcpserver, not /etc/hosts; the resolver is trusted. It is the one
of /etc/resolv.conf, whose changes are followed.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import NamedTuple

from aiodns import error
from pycares import AAAARecordData, ARecordData, DNSResult, PTRRecordData

from ucspid.lookup.cache import FAILED, NEGATIVE, TEST_AGAIN, Breaker, Cache, lifetime
from ucspid.lookup.channel import Channels
from ucspid.lookup.hostname import hostname
from ucspid.net.address import reverse_name
from ucspid.net.inet import pack
from ucspid.records import dataclass

_NOTHING_THERE = frozenset({error.ARES_ENOTFOUND, error.ARES_ENODATA, error.ARES_EBADNAME})
_ADDRESSES = (ARecordData, AAAARecordData)
_SILENCE = frozenset({error.ARES_ETIMEOUT, error.ARES_ECONNREFUSED})
_NOT_HEARD = frozenset(
    {error.ARES_EBADNAME, error.ARES_ECANCELLED, error.ARES_EDESTRUCTION, error.ARES_EFILE, error.ARES_ENOMEM}
)

OUTCOMES = ("answered", "nothing_there", "timed_out", "failed")
"""There are records; there is no such name, or none of its records; no answer came; there was an error."""


class Question(NamedTuple):
    """Which name an address has, or, where there is a name, whether it has the address.

    ip is an IPv4 address, or an IPv6 address that is not IPv4-mapped; name is a DnsAnswer's.
    """

    ip: str
    name: bytes | None = None


class DnsAnswer(NamedTuple):
    """The name that was asked for or about; None if there is none, or if the look-up failed."""

    found: bytes | None
    failed: bool = False


_FAILURE = DnsAnswer(None, failed=True)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a resolver keeps and asks, and how many seconds it waits.

    max_records bounds what c-ares keeps, timeout is for each name server in the first round.
    """

    capacity: int = 4096
    max_asked: int = 512
    max_records: int = 10_000
    timeout: float = 2.0
    test_timeout: float = 2.0
    test_again: float = TEST_AGAIN


class Resolver:
    """Asks the DNS, each question once at a time, and keeps what it answers.

    While the name server is dead (see Breaker), or too many questions wait, further ones fail at
    once. Such failures are not kept.
    """

    def __init__(self, nameservers: Sequence[str] | None = None, bounds: Bounds | None = None) -> None:
        """Take the name servers of /etc/resolv.conf, or others: IP, IP:PORT or [IP]:PORT."""
        self._bounds = bounds or Bounds()
        self._channels = Channels(nameservers, self._bounds.timeout, self._bounds.max_records)
        self._cache: Cache[Question, DnsAnswer] = Cache(self._bounds.capacity)
        self._breaker = Breaker(self._bounds.test_again)
        self._asked: dict[Question, asyncio.Task[DnsAnswer]] = {}
        self._tests: set[asyncio.Task[None]] = set()
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        """How many questions that name servers were asked had which of the OUTCOMES."""

    @property
    def idle(self) -> bool:
        """Whether nothing is open to ask anybody."""
        return self._channels.idle

    def known(self, question: Question) -> DnsAnswer | None:
        """Return the answer if it is known without waiting, None otherwise."""
        answer = self._cache.get(question, time.monotonic())
        if answer is None and self._breaker.dead:
            self._test_if_due()
            return _FAILURE
        return answer

    async def ask(self, question: Question) -> DnsAnswer:
        """Return the answer, after some seconds perhaps.

        A caller that is cancelled does not stop the question: its answer is kept for the next.
        """
        known = self.known(question)
        if known is not None:
            return known
        task = self._asked.get(question)
        if task is None:
            if len(self._asked) >= self._bounds.max_asked:
                return _FAILURE
            task = self._asked[question] = asyncio.create_task(self._find(question))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop asking; whoever waits gets a failure."""
        await self._channels.close()
        tasks = [*self._asked.values(), *self._tests]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(self, question: Question) -> DnsAnswer:
        answer, seconds = _FAILURE, FAILED
        try:
            answer, seconds = _read(question, await self._channels.query(*_in_dns(question)))
            self._breaker.answered()
            self.outcomes["answered"] += 1
        except error.DNSError as problem:
            code = problem.args[0]
            if code in _NOTHING_THERE:
                answer, seconds = DnsAnswer(None), NEGATIVE
            self._note_problem(code)
            self.outcomes[_outcome(code)] += 1
        finally:
            del self._asked[question]
        self._cache.put(question, answer, seconds, time.monotonic())
        return answer

    def _note_problem(self, code: int) -> None:
        if code in _SILENCE:
            self._breaker.timed_out()
            self._test_if_due()
        elif code not in _NOT_HEARD:
            self._breaker.answered()

    def _test_if_due(self) -> None:
        if self._breaker.test_is_due(time.monotonic()):
            task = asyncio.create_task(self._test())
            self._tests.add(task)
            task.add_done_callback(self._tests.discard)

    async def _test(self) -> None:
        """Ask about a name that nobody has asked about before: no cache on the way can answer."""
        answered = True
        try:
            async with asyncio.timeout(self._bounds.test_timeout):
                await self._channels.query(f"{secrets.token_hex(8)}.invalid", "A")
        except TimeoutError:
            answered = False
        except error.DNSError as problem:
            answered = problem.args[0] not in _SILENCE | _NOT_HEARD
        self._breaker.test_ended(time.monotonic(), answered=answered)


def _outcome(code: int) -> str:
    """Return which of the OUTCOMES an error is."""
    if code in _NOTHING_THERE:
        return "nothing_there"
    return "timed_out" if code == error.ARES_ETIMEOUT else "failed"


def _in_dns(question: Question) -> tuple[str, str]:
    """Return which name is to be looked up, and which records of it."""
    if question.name is None:
        return reverse_name(question.ip), "PTR"
    return question.name.decode(), "AAAA" if ":" in question.ip else "A"


def _read(question: Question, result: DNSResult) -> tuple[DnsAnswer, float]:
    """Return what was found, and for how many seconds it is to be kept.

    The resolver has followed aliases (RFC 2317): where they lead stands in the same answer. Of
    several names the first is taken.
    """
    found = None
    if question.name is None:
        names = (record.data.dname for record in result.answer if isinstance(record.data, PTRRecordData))
        found = hostname(next(names, ""))
    else:
        wanted = pack(question.ip)
        addresses = (record.data.addr for record in result.answer if isinstance(record.data, _ADDRESSES))
        if any(pack(address) == wanted for address in addresses):
            found = question.name
    seconds = lifetime(min((record.ttl for record in result.answer), default=0))
    return DnsAnswer(found), seconds if found else min(seconds, NEGATIVE)
