"""The number of sessions that an operator has set for a service, in place of the file's."""

from typing import Protocol

from ucspid.admission.acceptor import Acceptor
from ucspid.limits import ServiceLimits
from ucspid.plan import Service as Settings
from ucspid.records import replace


class Limited(Protocol):
    """What of a service has its limit."""

    settings: Settings
    limits: ServiceLimits
    acceptor: Acceptor


class OperatorLimit:
    """What holds until the next reload."""

    __slots__ = ("_service", "planned")

    def __init__(self, service: Limited) -> None:
        """Begin with what the file says."""
        self.planned: int | None = None
        """What the file says, where an operator has set another."""
        self._service = service

    def set(self, max_connections: int) -> None:
        """Have other than the planned number of sessions; those that are too many go on."""
        if self.planned is None:
            self.planned = self._service.settings.max_connections
        self._apply(max_connections)

    def clear(self) -> None:
        """Go back to what the file says."""
        if self.planned is not None:
            planned, self.planned = self.planned, None
            self._apply(planned)

    def _apply(self, max_connections: int) -> None:
        service = self._service
        service.settings = replace(service.settings, max_connections=max_connections)
        service.limits.change(service.settings)
        service.acceptor.reevaluate()
