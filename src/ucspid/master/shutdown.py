"""How the daemon ends: after its sessions, with them, or before them."""

import signal
from collections.abc import Callable

from ucspid.master.children import kill_descendants
from ucspid.master.parts import Parts

ALONE_TIMEOUT = 1.0
"""Seconds in which the loop is to say that it no longer listens, where the daemon exits with stop: exit."""
LAST_RESORT = 10.0
"""Seconds beyond all timeouts of services after which a stop kills whatever still runs."""


class Shutdown:
    """The end of the daemon."""

    def __init__(self, parts: Parts, drained: Callable[[], bool]) -> None:
        """Begin with a daemon that goes on; drained() says whether it stops and has no process any more."""
        self.exit: int | None = None
        """The exit status, once the daemon is to end."""
        self._parts = parts
        self._drained = drained

    def stop(self, *, again: bool) -> None:
        """Drain; the second time, end the sessions now."""
        parts, plan = self._parts, self._parts.held.plan
        if plan is None:
            self.kill_everything(0)
            return
        if plan.stop == "exit":
            if not again:
                parts.loop.drain(at_once=False, alone=True)
                parts.poller.call_in(ALONE_TIMEOUT if parts.loop.pids else 0.0, self._exit_without_loop)
            return
        parts.held.listeners.close()
        parts.loop.drain(at_once=again)
        drain = 0.0 if again else max((service.drain_timeout for service in plan.services), default=0.0)
        kill = max((service.kill_timeout for service in plan.services), default=0.0)
        parts.leftovers.stop(drain, kill, self.finish_if_drained)
        if not again:
            parts.readiness.stopping()
            parts.watchdog.stopping()
            for profile in parts.held.all_profiles():
                profile.draining = True
            parts.tls.stop()
            parts.poller.call_in(parts.held.longest + LAST_RESORT, self._last_resort)

    def exit_alone(self) -> None:
        """End; the programs go on, and the loop, which no longer listens, and the launchers with them."""
        self.exit = 0

    def _exit_without_loop(self) -> None:
        """End, too, if the loop does not answer: it is killed, so that it no longer listens."""
        if self._parts.loop.current is not None:
            self._parts.loop.current.process.kill()
        self.exit_alone()

    def finish_if_drained(self) -> None:
        """End, if the daemon drains and the last process has ended: its own, or an earlier master's."""
        if self._drained() and not self._parts.leftovers.find():
            self.exit = 0

    def _last_resort(self) -> None:
        self._parts.leftovers.signal(signal.SIGKILL)
        self.kill_everything(0)

    def kill_everything(self, status: int) -> None:
        """Kill all processes of the daemon and end: there is nothing to wait for any more."""
        kill_descendants()
        self.exit = status
