"""What a fork does: it runs the program, and ends as Python ends.

Python would take all its modules apart before it exits, which takes milliseconds and copies all memory that a
fork shares. What a program can see of that is done here: threads are waited for, atexit's functions are
called, what the program has made is destroyed, and files are flushed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn

    from ucspid.launcher.preload.program import PythonProgram

FLUSH_FAILED = 120
"""The exit status of Python if standard output cannot be flushed at its end."""

_variables: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined]  # noqa: SLF001

_BUFFERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
"""In the order in which they are flushed: what is in the first goes into the others."""


def run(program: PythonProgram, environment: dict[bytes, bytes]) -> NoReturn:
    """Run the program with these variables set too, NAME=VALUE by name, and exit."""
    status = 1
    try:
        for name, item in environment.items():
            environment[name] = item[len(name) + 1 :]
            os.putenv(name, environment[name])
        _variables.update(environment)
        value, problem = _ended(program)
        _flush_quietly()
        status = status_of(value) if problem is None else _show(problem)
        status = _finish(status)
        if isinstance(problem, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        os._exit(status)


def _ended(program: PythonProgram) -> tuple[object, BaseException | None]:
    """Run the program; return what sys.exit() is called with, or the exception that nobody has caught."""
    try:
        return program.run(), None
    except SystemExit as problem:
        return problem.code, None
    except BaseException as problem:  # noqa: BLE001 - the last resort
        return None, problem


def status_of(value: object) -> int:
    """Return the exit status for what sys.exit() is called with; print it if it is not a number."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF if -(1 << 63) <= value < 1 << 63 else 0xFF
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{value}\n")
        sys.stderr.flush()
    return 1


def _show(problem: BaseException) -> int:
    """Show an exception that nobody has caught; return the exit status."""
    frames = problem.__traceback__ = _frames(problem)
    sys.last_type, sys.last_value, sys.last_traceback = type(problem), problem, frames
    value, other = _hooked(problem, frames)
    if isinstance(other, SystemExit):
        return status_of(value)
    if other is not None:
        with contextlib.suppress(Exception):
            sys.stderr.write("Error in sys.excepthook:\n")
            sys.__excepthook__(type(other), other, other.__traceback__)
            sys.stderr.write("\nOriginal exception was:\n")
            sys.__excepthook__(type(problem), problem, frames)
    return 1


def _hooked(problem: BaseException, frames: TracebackType | None) -> tuple[object, BaseException | None]:
    """Call the hook for an exception; return what it has raised, and the value of SystemExit."""
    try:
        sys.excepthook(type(problem), problem, frames)
    except SystemExit as other:
        return other.code, other
    except BaseException as other:  # noqa: BLE001 - as Python does
        other.__traceback__ = _frames(other)
        return None, other
    return None, None


def _frames(problem: BaseException) -> TracebackType | None:
    """Return the frames of an exception, without those of this package."""
    frames = problem.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith("<ucspid."):
        frames = frames.tb_next
    return frames


def _finish(status: int) -> int:
    """Do what Python does at its end; return the status."""
    threading = sys.modules.get("threading")
    if threading is not None:
        _try(threading._shutdown)  # noqa: SLF001 - nothing else waits for threads
    _try(atexit._run_exitfuncs)  # noqa: SLF001 - nothing else calls them
    if not _flush_standard_files():
        status = FLUSH_FAILED
    _destroy()
    return status if _flush_standard_files() else FLUSH_FAILED


def _try(call: object) -> None:
    try:
        call()  # type: ignore[operator]
    except BaseException as problem:  # noqa: BLE001 - it goes on to its end
        _ignored(problem, call)


def _ignored(problem: BaseException, where: object) -> None:
    with contextlib.suppress(BaseException):
        make: Any = sys.UnraisableHookArgs
        sys.unraisablehook(make((type(problem), problem, problem.__traceback__, None, where)))


def _flush_quietly() -> None:
    """Flush as Python does between the program and its traceback."""
    for file in (sys.stderr, sys.stdout):
        with contextlib.suppress(Exception):
            file.flush()


def _flush_standard_files() -> bool:
    """Flush standard output and error; return whether that could be done."""
    flushed = True
    for file in (sys.stdout, sys.stderr):
        if file is None or getattr(file, "closed", False):
            continue
        try:
            file.flush()
        except BaseException as problem:  # noqa: BLE001 - as Python does
            flushed = False
            if file is sys.stdout:
                _ignored(problem, file)
    return flushed


def _destroy() -> None:
    """Destroy what the fork has made: the names of the script, then whatever only refers to itself.

    Files that are open still, in a module that was imported later, say, are flushed.
    """
    names = sys.modules["__main__"].__dict__
    for private in (True, False):
        for name in list(names):
            if name != "__builtins__" and private == (name[:1] == "_" and name[1:2] != "_"):
                names[name] = None
    gc.collect()
    files = [thing for thing in gc.get_objects() if type(thing) in _BUFFERS]
    for file in sorted(files, key=lambda file: _BUFFERS.index(type(file))):
        with contextlib.suppress(BaseException):
            file.flush()
