"""Carries out the notes of the loop. It is not trusted: it may have been taken over."""

from collections.abc import Callable

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.condition import Condition
from ucspid.master.changeover import Changeover
from ucspid.master.parts import Parts
from ucspid.master.rule_variables import RuleVariables


class LoopNotes:
    """A handler for each kind of note that a loop sends."""

    def __init__(
        self, parts: Parts, changeover: Changeover, variables: RuleVariables, exit_alone: Callable[[], None]
    ) -> None:
        """Carry notes out with these parts; exit_alone() ends a daemon that waits for no sessions."""
        self._exit_alone = exit_alone
        self._parts = parts
        self._changeover = changeover
        self._variables = variables
        self._handlers: dict[int, Callable[[int, int], None]] = {
            wire.NOTE_TAKEN: self._taken,
            wire.NOTE_SETTLED: self._settled,
            wire.NOTE_MORE: self._more,
            wire.NOTE_BROKEN: self._broken,
            wire.NOTE_RELOAD: self._reload,
            wire.NOTE_UPGRADE: self._upgrade,
            wire.NOTE_FORECAST: self._plan,
            wire.NOTE_VARIABLES: self._new_variables,
            wire.NOTE_ALONE: self._alone,
            wire.NOTE_CONDITION: self._condition,
            wire.NOTE_TLS_SILENT: self._tls_silent,
        }

    def take(self, kind: int, number: int, token: int) -> None:
        """Carry a note out. Raises WireError if no loop sends such a note."""
        handler = self._handlers.get(kind)
        if handler is None:
            raise WireError(f"it sent a note of kind {kind}")
        handler(number, token)

    def _taken(self, generation: int, _token: int) -> None:
        if generation == self._parts.loop.generation:
            self._changeover.taken()

    def _settled(self, generation: int, _token: int) -> None:
        if generation == self._parts.loop.generation:
            self._parts.settling.settled()

    def _more(self, profile: int, _token: int) -> None:
        for launchers in self._parts.held.all_profiles():
            if launchers.number == profile:
                self._parts.starter.add(launchers)

    def _broken(self, number: int, _token: int) -> None:
        self._parts.held.kill_launcher(number)

    def _reload(self, _number: int, token: int) -> None:
        self._changeover.reload(token)

    def _upgrade(self, _number: int, token: int) -> None:
        self._changeover.upgrade(token)

    def _plan(self, _number: int, token: int) -> None:
        self._changeover.forecast.want(token)

    def _alone(self, _number: int, _token: int) -> None:
        if not self._parts.loop.alone:
            raise WireError("it goes on alone, and was not ordered to")
        self._exit_alone()

    def _condition(self, number: int, token: int) -> None:
        self._parts.watchdog.answered(Condition.from_note(number, token))

    def _tls_silent(self, number: int, _token: int) -> None:
        self._parts.tls.suspect(number)

    def _new_variables(self, service: int, _token: int) -> None:
        self._variables.want(service)
