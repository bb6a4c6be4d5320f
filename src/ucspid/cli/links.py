"""ucspid links: the tools under their own names, as files of a folder."""

import argparse
import contextlib
import os
import sys

import ucspid
from ucspid.errors import ConfigError
from ucspid.tools.table import NEED_PACKAGES, TOOLS

MAX_SHEBANG = 255
"""Bytes of a script's first line that Linux reads."""
MADE = b"# Made by ucspid links; ucspid links --remove takes it away.\n"
"""The second line of what is made, by which it is known."""


def main(options: argparse.Namespace) -> int:
    """Make the links, or remove them. Raises ConfigError if something else is in the way, OSError."""
    paths = {name: os.path.join(options.folder, name) for name in TOOLS}
    if options.remove:
        for path in paths.values():
            if _is_ours(path):
                os.unlink(path)
        return 0
    others = [path for path in paths.values() if os.path.lexists(path) and not _is_ours(path)]
    if others:
        raise ConfigError(
            [f"{path}: not made by ucspid links; it is kept, and nothing was made" for path in others]
        )
    for name, path in paths.items():
        _install(path, script(name))
    return 0


def script(name: str) -> bytes:
    """Return what starts a tool: a few lines for an interpreter that loads nothing else.

    Raises ConfigError if the path of the interpreter cannot stand in a script's first line.
    """
    python = os.fsencode(sys.executable)
    bare = name not in NEED_PACKAGES
    first = b"#!%s %s\n" % (python, b"-ISXutf8" if bare else b"-IXutf8")
    if len(first) > MAX_SHEBANG or len(python.split()) != 1:
        raise ConfigError([f"{sys.executable}: too long, or with a space in it, for a script's first line"])
    package = os.path.dirname(ucspid.__path__[0])
    lines = (
        "import sys",
        f"sys.path.append({package!r})",
        f"from {TOOLS[name]} import main",
        "from ucspid.tools.process import run",
        "run(main, sys.argv)",
    )
    return first + MADE + "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _is_ours(path: str) -> bool:
    """Return whether a file was made here."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        head = os.read(descriptor, MAX_SHEBANG + len(MADE))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return head.partition(b"\n")[2].startswith(MADE)


def _install(path: str, content: bytes) -> None:
    """Put a file in place, at once and whole."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, 0o755)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
