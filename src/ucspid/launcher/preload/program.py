"""The program that a launcher imports once, and what a fork runs of it."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import operator
import os
import sys
import time
import traceback
import types
from importlib.machinery import SourceFileLoader

from ucspid.launcher.preload import leftovers
from ucspid.launcher.preload.imports import leading_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ucspid.ipc.messages import Preload

MAX_REASON = 6000
"""Characters of the reason why a program cannot be imported; of a traceback its end is kept."""


class CannotLoadError(Exception):
    """The program cannot be imported, or leaves something behind that no fork can have; the text says why."""


class PythonProgram:
    """Imports what there is to import, and runs the rest."""

    def __init__(self, orders: Preload, arguments: tuple[bytes, ...]) -> None:
        """Import as the process that is to be forked; arguments are sys.argv. Raises CannotLoadError."""
        self.watched = orders.watch
        self.began = time.time()
        self._open = leftovers.descriptors()
        sys.argv[:] = map(os.fsdecode, arguments)
        sys.modules["__main__"] = types.ModuleType("__main__")
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = [sys.executable, *sys.argv]
        # Bytecode passes for that of a source of the same size that was written in the same second. So what
        # is imported here leaves none: it could hide a change a moment later.
        writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        if orders.script is not None:
            self._run = self._of_script(orders.script, orders.modules)
        else:
            assert orders.module is not None
            self._run = self._of_function(orders.module, orders.modules)
        sys.dont_write_bytecode = writes_none
        self.modules = frozenset(sys.modules)
        """The names of what is imported before a fork."""

    def run(self) -> object:
        """Run it as it would run if it had been executed; return what sys.exit() is to be called with."""
        return self._run()

    def _of_script(self, path: str, modules: tuple[bytes, ...]) -> Callable[[], object]:
        with self._loading(path):
            file = _reachable(path)
            with open(file, "rb") as opened:
                source = opened.read()
            sys.modules["__main__"].__file__ = file
            imports = leading_imports(source, file)
            code = compile(source, file, "exec", dont_inherit=True)
        _search_first(_real_directory(file))
        self._import_all(modules)
        for name, statement in imports:
            with self._loading(path), self._leaving_nothing(name):
                exec(statement, {"__name__": "__main__"})  # noqa: S102 - an import

        def run() -> None:
            exec(code, _become_main(file))  # noqa: S102 - it is what there is to do

        return run

    def _of_function(self, name: str, modules: tuple[bytes, ...]) -> Callable[[], object]:
        _search_first(_reachable("."))
        self._import_all(modules)
        module, _, function = name.partition(":")
        with self._loading(name), self._leaving_nothing(module):
            imported = importlib.import_module(module)
            call: Callable[[], object] = operator.attrgetter(function)(imported)
        if not callable(call):
            raise CannotLoadError(f"{name}: {function} is not a function")
        return call

    def _import_all(self, modules: tuple[bytes, ...]) -> None:
        for name in map(os.fsdecode, modules):
            with self._loading(f"preload: {name}"), self._leaving_nothing(name):
                importlib.import_module(name)

    @contextlib.contextmanager
    def _loading(self, what: str) -> Iterator[None]:
        try:
            yield
        except CannotLoadError:
            raise
        except BaseException as problem:  # noqa: BLE001 - SystemExit too: whatever the program does
            raise CannotLoadError(f"{what}: cannot be imported:\n{_trace(problem)}") from None

    @contextlib.contextmanager
    def _leaving_nothing(self, module: str) -> Iterator[None]:
        yield
        left = leftovers.found(self._open)
        if left is not None:
            raise CannotLoadError(
                f"{module}: its import leaves something behind that a fork cannot have: {left}; "
                "make it when the program runs, or set program: in place of python: or module:"
            )


def _trace(problem: BaseException) -> str:
    """Return the traceback, without the frames of this module, or as much of its end as there is room for."""
    frames = problem.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith("<ucspid."):
        frames = frames.tb_next
    lines = traceback.format_exception(type(problem), problem, frames)
    text = "".join(lines).rstrip()
    return text if len(text) <= MAX_REASON else "..." + text[-MAX_REASON:]


def _reachable(path: str) -> str:
    """Return a path as Python makes it absolute; where that cannot be walked to, by the working directory.

    A launcher enters that with other rights than the program's, as `chdir` promises.
    """
    absolute = os.path.abspath(path)
    there = f"/proc/self/cwd/{path}"
    if os.path.isabs(path) or os.path.exists(absolute) or not os.path.exists(there):
        return absolute
    return os.path.normpath(there)


def _real_directory(file: str) -> str:
    """Return the directory that Python searches first for the modules that a script imports."""
    real = os.path.realpath(file)
    return os.path.dirname(real if os.path.exists(real) else file)


def _search_first(directory: str) -> None:
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, directory)


def _become_main(file: str) -> dict[str, object]:
    """Return the names of a new module __main__, as Python makes it for a script."""
    module = types.ModuleType("__main__")
    names = module.__dict__
    names.update(
        __builtins__=builtins,
        __cached__=None,
        __file__=file,
        __loader__=SourceFileLoader("__main__", file),
        __package__=None,
    )
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    sys.modules["__main__"] = module
    return names
