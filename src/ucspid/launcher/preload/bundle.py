"""Modules of ucspid under an interpreter that has none: from their code, without files.

Executed by itself, as the first of them. Nothing of the program is imported yet.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

PACKAGE = "ucspid"
_MASTER = 3
_CANNOT_LOAD, _EXIT = b"\x33", 100


class Sources:
    """Finds and loads modules by their names: their code, and whether they are packages."""

    def __init__(self, sources: dict[str, tuple[CodeType, bool]]) -> None:
        """Keep the code."""
        self._sources = sources

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module is loaded, if it is one of these."""
        if name not in self._sources:
            return None
        return ModuleSpec(name, self, is_package=self._sources[name][1])  # type: ignore[arg-type]

    def create_module(self, _spec: ModuleSpec) -> None:
        """Have the module made as usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code in it."""
        exec(self._sources[module.__name__][0], module.__dict__)  # noqa: S102 - it is ucspid's own


def run(main: str, sources: dict[str, tuple[CodeType, bool]], orders: dict[str, object]) -> int:
    """Call main() of a module of the sources with orders; return what it returns.

    When it begins, ucspid's modules cannot be imported any more: the program may have a ucspid of its own.
    """
    finder = Sources(sources)
    sys.meta_path.insert(0, finder)
    try:
        __import__(main)
    except ImportError as problem:
        # A Python that was built without it, perhaps. This is CannotLoad, which cannot be imported either.
        reason = f"{sys.executable} lacks what a launcher needs: {problem}".encode()
        os.write(_MASTER, _CANNOT_LOAD + len(reason).to_bytes(4, "little") + reason)
        return _EXIT
    finally:
        sys.meta_path.remove(finder)
    begin = sys.modules[main].main
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    status: int = begin(**orders)
    return status
