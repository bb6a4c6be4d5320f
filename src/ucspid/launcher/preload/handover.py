"""From the launcher that has taken its privileges to the interpreter of the service, in the same process.

The interpreter may be a file of the service's user, so it must not run before the privileges are taken; and
then the files of ucspid may be out of reach, outside the root directory even. So their texts are read before,
and go along in memory, with what the master has said.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.launcher.preload import bundle
from ucspid.launcher.preload import main as last
from ucspid.linux import prctl

BUNDLE = 6
"""The descriptor of the memory."""
_OUT_OF_THE_WAY = 20

_BEGIN = f"""\
import sys
if sys.path[:1] == [""]: del sys.path[0]
import marshal, os
file = open({BUNDLE}, "r+b")
def compiled():
    import ast
    given = ast.literal_eval(file.read().decode("utf-8"))
    if sys.version_info < (3, 9): os.write(3, given["too_old"]); os._exit(100)
    given["first"] = compile(given["first"], "<bundle>", "exec")
    for name, (text, is_package) in given["sources"].items():
        given["sources"][name] = compile(text, "<%s>" % name, "exec", dont_inherit=True), is_package
    return given
try: compiler = os.fork()
except OSError: given = compiled()
else:
    if not compiler:
        given = marshal.dumps(compiled())
        file.seek(0)
        file.write(given)
        file.flush()
        os._exit(0)
    if os.waitpid(compiler, 0)[1]: os._exit(100)
    file.seek(0)
    given = marshal.load(file)
file.close()
names = {{"__name__": "bundle"}}
exec(given["first"], names)
os._exit(names["run"](given["main"], given["sources"], given["orders"]))
"""
"""What the interpreter runs; descriptor 3 is the channel to the master, whatever Python it is.

A process of its own compiles the texts, if there can be one. What that takes for a while would lie between
the objects that stay, and the more pages these are on, the more a fork copies.

A launcher ends without what Python does at its end: that is for its forks."""


class Handover:
    """What the service's interpreter is to be given."""

    def __init__(
        self, program: bytes, stderr: list[int], preload: bytes, earlier: list[bytes], orphans: set[int]
    ) -> None:
        """Read the texts, as whoever the launcher is still; the other arguments are packets of the master's.

        program is SetProgram, stderr the descriptor beside it, if there is one; earlier are further packets.
        """
        self._program = wire.SetProgram.unpack(program)
        if len(stderr) != (self._program.stderr == wire.STDERR_GIVEN):
            raise WireError(f"{len(stderr)} descriptors with a program")
        self._stderr = stderr
        self._sources = {
            name: (_text(module.__file__), hasattr(module, "__path__"))
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] == bundle.PACKAGE
        }
        self._packets = {"program": program, "preload": preload, "earlier": earlier}
        self._orphans = orphans

    def execute(self, keep: tuple[int, ...], orders: wire.TakePrivileges) -> None:
        """Become the interpreter, with the environment of the service; keep are descriptors that stay.

        Standard input and output are a socket that nobody writes to, so that Python makes of them what it
        will need for a client's. Raises OSError if it cannot be executed.
        """
        memory = self._in_memory(
            title=orders.title, limits=last.lent_limits(orders), dumpable=prctl.is_dumpable()
        )
        with contextlib.ExitStack() as undo:
            silent, end = socket.socketpair()
            undo.enter_context(end)
            undo.enter_context(silent)
            for descriptor, place in [(silent.fileno(), 0), (silent.fileno(), 1), (memory, BUNDLE)]:
                os.dup2(descriptor, place)
            for descriptor in self._stderr:
                os.dup2(descriptor, 2)
            os.close(memory)
            for descriptor in keep:
                os.set_inheritable(descriptor, True)
            environment = dict(item.partition(b"=")[::2] for item in self._program.environment)
            interpreter = self._program.executable
            os.execve(interpreter, [interpreter, "-c", _BEGIN], environment)  # noqa: S606 - no shell

    def _in_memory(self, **orders: object) -> int:
        """Return the descriptor of memory with all that is to be known, as a literal of Python's."""
        given = {
            "first": self._sources[bundle.__name__][0],
            "main": last.__name__,
            "sources": self._sources,
            "orders": {**self._packets, "orphans": sorted(self._orphans), **orders},
            "too_old": wire.CannotLoad(
                f"{self._program.executable} is older than Python 3.9: set another interpreter"
            ).pack(),
        }
        memory = os.memfd_create("ucspid-preload", os.MFD_CLOEXEC)
        with open(memory, "wb", closefd=False) as file:
            file.write(repr(given).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        place = fcntl.fcntl(memory, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        os.close(memory)
        return place


def _text(path: str | None) -> str:
    assert path is not None
    with open(path, encoding="utf-8") as file:
        return file.read()
