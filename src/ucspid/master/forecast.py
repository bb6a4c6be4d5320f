"""What a reload would change: the file is read and checked, and nothing is done about it."""

import os

from ucspid.errors import ResourceError, UcspidError
from ucspid.master.control_clients import ControlClients
from ucspid.master.parts import Parts
from ucspid.master.reader import ConfigReading
from ucspid.master.text import first_lines
from ucspid.plan import Plan
from ucspid.policy.plan_changes import changes


class Forecast:
    """One look at the file at a time; who asks during one waits for the next."""

    def __init__(self, parts: Parts, clients: ControlClients) -> None:
        """Begin with nothing under way."""
        self._parts = parts
        self._clients = clients
        self._reading: ConfigReading | None = None

    def want(self, token: int) -> None:
        """Answer a control client with what a reload would change. Raises WireError if too many wait."""
        self._clients.wait(self._clients.for_next_forecast, token)
        self._go_on()

    def cancel(self) -> None:
        """Begin no more: the daemon stops, and has answered the clients."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _go_on(self) -> None:
        clients = self._clients
        if self._reading is not None or not clients.for_next_forecast:
            return
        clients.for_forecast, clients.for_next_forecast = clients.for_next_forecast, []
        parts = self._parts
        if parts.given is not None:
            self._answer(ResourceError(f"{parts.config} has no file that could be read"))
            return
        try:
            self._reading = ConfigReading(parts.config, parts.children, parts.poller, self._read)
        except ResourceError as problem:
            self._answer(problem)

    def _read(self, result: tuple[Plan, int] | UcspidError) -> None:
        self._reading = None
        if isinstance(result, UcspidError):
            self._answer(result)
        else:
            plan, material = result
            os.close(material)
            self._answer(plan)
        self._go_on()

    def _answer(self, result: Plan | UcspidError) -> None:
        clients, now = self._clients, self._parts.held.plan
        if isinstance(result, UcspidError):
            clients.fail(clients.for_forecast, result)
            return
        another = now is not None and now.loop_settings != result.loop_settings
        found = {"changes": first_lines(changes(now, result)), "another_loop": another}
        clients.succeed(clients.for_forecast, found)
