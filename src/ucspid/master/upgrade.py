"""Upgrades of the daemon's code while it runs: a trial of what is installed now, then execve(2).

Process, descriptors, children, blocked and pending signals and the role of a subreaper stay
through execve(2) (execve(2), signal(7), prctl(2)). Until it succeeds nothing has changed.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ucspid import __version__
from ucspid.errors import EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.master import roles
from ucspid.master.children import Children
from ucspid.master.helper import Helper, Outcome
from ucspid.master.poller import Poller
from ucspid.master.truncate import beginning
from ucspid.master.upgrade_state import State
from ucspid.policy.exit_status import in_words

TIMEOUT = 30.0
"""Seconds that a trial may take."""


class Owner(Protocol):
    """What an upgrade needs of the master."""

    def to_state(self, upgrade_tokens: list[int]) -> State:
        """Return everything that the next image is to know."""

    def tell_tokens(self, tokens: list[int], problem: UcspidError) -> None:
        """Tell control clients that their wish was not fulfilled."""

    def log(self, level: str, event: str, **fields: object) -> None:
        """Log an event."""


class Upgrade:
    """The upgrade that is wanted or being tried, if one is."""

    def __init__(
        self, owner: Owner, config: str, children: Children, poller: Poller, ended: Callable[[], None]
    ) -> None:
        """Begin with none; ended() is called when one has failed."""
        self._owner = owner
        self._config = config
        self._children = children
        self._poller = poller
        self._ended = ended
        self._tokens: list[int] | None = None
        self._trial: Helper | None = None

    @property
    def wanted(self) -> bool:
        """Whether one waits to be begun."""
        return self._tokens is not None and self._trial is None

    @property
    def trying(self) -> bool:
        """Whether one is under way."""
        return self._trial is not None

    @property
    def tokens(self) -> list[int]:
        """Return the tokens of the control clients who wait for it."""
        return self._tokens or []

    def forget_clients(self) -> None:
        """Forget who waits for it: the loop whose clients they were has died."""
        self._tokens = None if self._tokens is None else []

    def want(self, tokens: list[int]) -> None:
        """Take a wish; those that come before it is fulfilled are one."""
        self._tokens = (self._tokens or []) + tokens

    def begin(self) -> None:
        """Try what is installed now."""
        try:
            state = self._owner.to_state([])
            memory = state.to_memory()
            try:
                counts = state.holdings.others["counters"]
                start = partial(roles.start_trial, memory, counts, self._config)
                self._trial = Helper(start, "a trial", self._children, self._poller, TIMEOUT, self._tried)
            finally:
                os.close(memory)
        except ResourceError as problem:
            self._failed(problem)
        except OSError as problem:
            self._failed(ResourceError(f"no trial: {problem.strerror}"))

    def cancel(self, problem: UcspidError) -> None:
        """Give up: the daemon stops."""
        if self._trial is not None:
            self._trial.cancel()
            self._trial = None
        if self._tokens is not None:
            self._owner.tell_tokens(self._tokens, problem)
            self._tokens = None

    def _tried(self, outcome: Outcome) -> None:
        self._trial = None
        lines = beginning(outcome.errors.splitlines())
        if outcome.code == 0:
            self._execute(self._tokens or [])
        elif outcome.code == EXIT_USAGE:
            self._failed(ConfigError(lines))
        else:
            if outcome.hung_at is not None:
                lines.append(f"no answer within {TIMEOUT:g} s: it hangs at {outcome.hung_at or 'its start'}")
            lines = lines or [in_words(outcome.code)]
            self._failed(
                ResourceError("\n".join(["the version that is installed does not come up:", *lines]))
            )

    def _execute(self, tokens: list[int]) -> None:
        """Become the code that is installed; return only if that cannot be."""
        descriptors: list[int] = []
        memory = None
        try:
            state = self._owner.to_state(tokens)
            memory = state.to_memory()
            descriptors = [*state.descriptors(), memory]
            for descriptor in descriptors:
                os.set_inheritable(descriptor, True)
            arguments = [*roles.PYTHON, "-m", "ucspid.master.resume", str(memory)]
            os.execve(sys.executable, arguments, os.environ)  # noqa: S606 - no shell is wanted
        except OSError as problem:
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            if memory is not None:
                os.close(memory)
            self._failed(ResourceError(f"cannot execute {sys.executable}: {problem.strerror}"))

    def _failed(self, problem: UcspidError) -> None:
        tokens, self._tokens = self._tokens or [], None
        self._owner.log("error", "upgrade_failed", version=__version__, reason=str(problem))
        self._owner.tell_tokens(tokens, problem)
        self._ended()
