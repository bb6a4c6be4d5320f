"""How the event loop's services are, in a few numbers: the master shows it to the service manager."""

from ucspid.control.serving import Server
from ucspid.control.status import state_of
from ucspid.ipc.condition import TROUBLES, Condition
from ucspid.sessions.service import LiveService

_RANK = {trouble: rank for rank, trouble in enumerate(TROUBLES)}


def condition(server: Server) -> Condition:
    """Return how many sessions live, and which service has the worst trouble."""
    troubled = [
        (_RANK[trouble], number)
        for number, service in server.services.by_number.items()
        if (trouble := _trouble(service))
    ]
    if not troubled or server.draining:
        return Condition(server.services.live)
    rank, number = min(troubled)
    return Condition(server.services.live, len(troubled), number, TROUBLES[rank])


def _trouble(service: LiveService) -> str:
    state = state_of(service)
    if state in _RANK:
        return state if state != "rules" else ""
    followed = service.followed
    return "rules" if followed is not None and followed.problem else ""
