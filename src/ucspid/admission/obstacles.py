"""What stands in the way of a service: of accepting, of starting the sessions of admitted connections."""

import enum
import math
from typing import NamedTuple, Protocol

from ucspid.admission.listening import Listening
from ucspid.admission.pipeline import Pipeline
from ucspid.admission.rules_file import FollowedRules
from ucspid.limits import Lack, ServiceLimits
from ucspid.plan import Service as Settings
from ucspid.policy.throttle import Throttle
from ucspid.pool import Pool

NEVER = -math.inf
"""One object for all services: each -inf that is calculated is another."""


class Hold(enum.StrEnum):
    """Why a service accepts nothing now, or starts nothing."""

    CLOSED = "closed"
    PAUSED = "paused"
    THROTTLED = "throttled"
    DAEMON_FULL = "daemon_full"
    FULL = "full"
    LOOKUPS = "lookups"
    RATE = "rate"
    RULES = "rules"
    HANDSHAKES = "handshakes"
    LAUNCHERS = "launchers"
    ACCEPT = "accept_failed"


_OF_LACK = {
    Lack.DAEMON: Hold.DAEMON_FULL,
    Lack.SERVICE: Hold.FULL,
    Lack.LOOKUPS: Hold.LOOKUPS,
    Lack.RATE: Hold.RATE,
}


class Block(NamedTuple):
    """What stands in the way, and for how many seconds; infinity if only a call ends it."""

    hold: Hold
    seconds: float = math.inf


class Obstructed(Protocol):
    """What of a service can stand in its way."""

    settings: Settings
    pipeline: Pipeline
    throttle: Throttle
    pool: Pool

    @property
    def limits(self) -> ServiceLimits:
        """The service's limits."""

    @property
    def followed(self) -> FollowedRules | None:
        """Its rules file, if the rules are in one."""


class Obstacles:
    """Finds what is in the way, from the state of the service at that moment."""

    __slots__ = ("_listening", "_service", "accept_after", "paused")

    def __init__(self, service: Obstructed, listening: Listening) -> None:
        """Begin with what the service's own state says, and nothing else."""
        self.paused = False
        """Whether an operator wants nothing to be accepted."""
        self.accept_after = NEVER
        """The monotonic time before which accept(2) is not tried again."""
        self._service = service
        self._listening = listening

    def to_start(self, now: float) -> Block | None:
        """Return what stands in the way of the session of a connection that is admitted."""
        service = self._service
        if service.throttle.failures and (pause := service.throttle.wait(now)) > 0:
            return Block(Hold.THROTTLED, pause)
        lack = service.limits.may_begin()
        if lack is not None:
            return Block(_OF_LACK[lack])
        return Block(Hold.LAUNCHERS) if service.pool.choose() is None else None

    def to_accept(self, now: float) -> Block | None:
        """Return what stands in the way of another connection."""
        service = self._service
        if self.paused or not self._listening.listeners:
            return Block(Hold.PAUSED if self.paused else Hold.CLOSED)
        if now < self.accept_after:
            return Block(Hold.ACCEPT, self.accept_after - now)
        if service.throttle.failures and (pause := service.throttle.wait(now)) > 0:
            return Block(Hold.THROTTLED, pause)
        room = service.limits.room(now)
        if room > 0:
            return Block(_OF_LACK[service.limits.lack()], room)
        crowded, rules = service.pipeline.crowded, service.followed
        if crowded or (rules is not None and rules.busy):
            return Block(Hold.HANDSHAKES if crowded else Hold.RULES)
        return Block(Hold.LAUNCHERS) if service.pool.choose() is None else None
