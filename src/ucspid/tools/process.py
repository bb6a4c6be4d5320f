"""A tool as a process: what it begins with, how it ends, and how it becomes another program."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal takes 3 ms to import, for its enums
import errno
import os

from ucspid.tools.messages import ToolError, write_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

DEFAULT_PATH = b"/bin:/usr/bin"
"""Where programs are looked for without PATH in the environment."""
PASSED_OVER = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR})
"""What may be wrong with a file on the way, so that the search for another one goes on."""
COERCED = frozenset({b"C.UTF-8", b"C.utf8", b"UTF-8"})
"""What the interpreter sets LC_CTYPE to where the locale is C."""


def run(main: Callable[[list[bytes]], int], arguments: list[str]) -> NoReturn:
    """Be a tool; arguments begin with the name that it was called by.

    Signals have their default effect first: the interpreter ignores SIGPIPE and SIGXFSZ, and catches
    SIGINT unless it was ignored before.
    """
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        code = main([os.fsencode(argument) for argument in arguments])
    except ToolError as error:
        write_line(error.text)
        code = error.code
    os._exit(code)


def ignore_sigpipe() -> None:
    """Have writes to what nobody reads fail, not end the process."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)


def allow_sigpipe() -> None:
    """Have SIGPIPE its default effect, for a program that follows."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)


def environment() -> dict[bytes, bytes]:
    """Return what the process was started with, without what the interpreter has put in for itself."""
    variables = dict(os.environb)
    if variables.get(b"LC_CTYPE") in COERCED and not _was_set(b"LC_CTYPE"):
        del variables[b"LC_CTYPE"]
    return variables


def _was_set(name: bytes) -> bool:
    try:
        with open("/proc/self/environ", "rb", buffering=0) as file:
            return (b"\0" + (file.read() or b"")).find(b"\0" + name + b"=") >= 0
    except OSError:
        return True


def execute(file: bytes, argv: list[bytes], variables: dict[bytes, bytes]) -> OSError:
    """Become a program, looked for in the PATH that this process was started with, or return why not.

    The reason is that of the last file that was there, if one was.
    """
    if b"/" in file:
        return _try(file, argv, variables)
    reason = None
    for folder in os.environb.get(b"PATH", DEFAULT_PATH).split(b":"):
        error = _try((folder or b".") + b"/" + file, argv, variables)
        if error.errno != errno.ENOENT:
            reason = error
            if error.errno not in PASSED_OVER:
                return error
    return reason or error


def _try(path: bytes, argv: list[bytes], variables: dict[bytes, bytes]) -> OSError:
    try:
        if argv[0]:
            os.execve(path, argv, variables)  # noqa: S606 - this is what it is for
        os.stat(path)
    except OSError as error:
        return error
    # The interpreter refuses to execute anything under an empty name.
    return OSError(errno.EACCES if path.endswith(b"/") else errno.EINVAL, "")
