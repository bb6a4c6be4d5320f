"""What is done to every client's socket at once, before anything is known of the client."""

import contextlib
import socket

from ucspid.admission.connection import Connection
from ucspid.admission.stage import Outcome, Resources

_POLITE = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class FirstWords:
    """Sends the banner, and takes the IP options off."""

    def __init__(self, resources: Resources) -> None:
        """Take the settings of a service that wants either."""
        self._banner = resources.settings.banner.encode("utf-8", "surrogateescape")
        self._kill_ip_options = resources.settings.kill_ip_options

    def enter(self, connection: Connection) -> Outcome:
        """Never wait, and never refuse: who does not take the banner is gone."""
        with socket.socket(fileno=connection.descriptor) as sock:
            try:
                if self._kill_ip_options and sock.family != socket.AF_UNIX:
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
                if self._banner:
                    with contextlib.suppress(OSError):
                        sock.send(self._banner, _POLITE)
            finally:
                sock.detach()
        return None


def make(resources: Resources) -> FirstWords | None:
    """Return the stage of a service that has something to do at once."""
    settings = resources.settings
    return FirstWords(resources) if settings.banner or settings.kill_ip_options else None
