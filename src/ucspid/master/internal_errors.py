"""Bugs of the master: they are logged, and the master goes on, since nobody can take its place."""

import contextlib
from collections.abc import Callable, Iterator

MAX_TRACE = 4000
"""Characters of a traceback, from its end: that is where the problem was."""


class InternalErrors:
    """Reports exceptions that should never have been raised."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """Call report() with the end of the traceback of each."""
        self._report = report

    def caught(self, problem: Exception) -> None:
        """Report an exception."""
        import traceback  # noqa: PLC0415 - not needed as a rule, and not small

        self._report("".join(traceback.format_exception(problem))[-MAX_TRACE:])

    @contextlib.contextmanager
    def contained(self) -> Iterator[None]:
        """Report what is raised in the block, and go on after it."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - that is the purpose
            self.caught(problem)
