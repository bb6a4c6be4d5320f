"""Compiling the bench's C programs, each time anew into a folder of the run: that takes a second."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
_FLAGS = ["-O2", "-Wall", "-Wextra"]
_STATIC = ["-static"]
"""For a program with the C library in it."""
_BARE = [*_STATIC, "-nostdlib", "-DBARE"]
"""For a program without the C library; machines that program.c does not know get one with it."""


class CannotBuildError(Exception):
    """There is no C compiler, or it fails."""


@dataclass(frozen=True)
class Programs:
    """Paths of what was compiled.

    trivial says a line and exits, with the C library; bare does the same without it, for cases in which the
    server's own cost is to be seen; hold, without it too, waits for the client's end before it exits.
    talk, with the C library, answers what the client says. tls is what is behind TLS, see tls_program.c.
    """

    load: str
    floor: str
    trivial: str
    bare: str
    hold: str
    talk: str
    tls: str


def build(folder: Path) -> Programs:
    """Compile everything into a folder. Raises CannotBuildError."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotBuildError("there is no C compiler: the load generator and the floor are in C")
    for name in ("load", "floor"):
        _compile(compiler, folder / name, f"{name}.c", [])
    _compile(compiler, folder / "trivial", "program.c", _STATIC)
    _compile(compiler, folder / "talk", "program.c", [*_STATIC, "-DTALK"])
    _compile(compiler, folder / "tls", "tls_program.c", _STATIC)
    for name, flags in (("bare", []), ("hold", ["-DHOLD"])):
        try:
            _compile(compiler, folder / name, "program.c", [*_BARE, *flags])
        except CannotBuildError:
            _compile(compiler, folder / name, "program.c", [*_STATIC, *flags])
    names = ("load", "floor", "trivial", "bare", "hold", "talk", "tls")
    return Programs(*(str(folder / name) for name in names))


def _compile(compiler: str, output: Path, source: str, flags: list[str]) -> None:
    command = [compiler, *_FLAGS, *flags, "-o", str(output), str(SOURCES / source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuildError(f"{' '.join(command)}: {done.stderr.strip()}")
