"""Clients whom an operator has denied for a time: before anything is spent on them."""

from ucspid.admission.connection import Connection
from ucspid.admission.stage import BANNED, Outcome, Refused, Resources
from ucspid.policy.bans import Banned


class DeniedClients:
    """Refuses the clients of denied networks."""

    def __init__(self, banned: Banned) -> None:
        """Take what says whom to refuse."""
        self._banned = banned

    def enter(self, connection: Connection) -> Outcome:
        """Refuse a client of a denied network, which is said in the log."""
        network = self._banned(connection.ip, connection.began)
        return None if network is None else Refused(BANNED, detail=network)


def make(resources: Resources) -> DeniedClients | None:
    """Return the stage, which no service has while nobody is denied."""
    return None if resources.banned is None else DeniedClients(resources.banned)
