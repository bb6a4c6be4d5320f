"""Where the daemon's control socket is: from the command line or from its configuration file.

Only the key control is read of the file. The rest may be wrong at that moment: that is when
someone wants to see the status, or to read what reload finds wrong.
"""

import argparse
import os
import re
from pathlib import Path

from ucspid.cli.client import call
from ucspid.cli.process_socket import control_of_process
from ucspid.config import forms
from ucspid.config.positions import Node, read
from ucspid.config.problems import Problems
from ucspid.config.shapes import WRONG, Formed
from ucspid.errors import ConfigError

_CONTROL_LINE = re.compile(rb"^control[ \t]*:.*$", re.MULTILINE)
_STATUS_TIMEOUT = 10.0
"""Seconds."""


def control_path(options: argparse.Namespace) -> Path:
    """Return the path that --control, --pid or the file of -c gives; in the file it is relative to the file.

    Raises ConfigError if the file has none or cannot be read, ResourceError if the process has none.
    """
    if options.control is not None:
        return Path(options.control)
    if options.pid is not None:
        return control_of_process(options.pid)
    file = Path(options.config)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from error
    path = _control_key(data)
    if path is None:
        raise ConfigError([f"{file}: no control socket (control: PATH): give its path with --control"])
    return file.parent / path


def control_of_its_daemon(options: argparse.Namespace) -> Path:
    """Return control_path() if the daemon that answers there runs the file of -c.

    Another file that names the same socket would seem to be in force. Raises what control_path()
    and call() raise, and ConfigError if the daemon runs another file.
    """
    path = control_path(options)
    if options.control is None and options.pid is None:
        running = call(path, "status", {}, _STATUS_TIMEOUT).get("config")
        if isinstance(running, str) and not _same_file(running, options.config):
            text = f"the daemon at {path} runs another file, {running}: nothing was done; use -c {running}"
            raise ConfigError([f"{options.config}: {text}"])
    return path


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _control_key(data: bytes) -> str | None:
    line = _CONTROL_LINE.search(data)
    # What is not YAML as a whole still has the key, most likely, in the line that begins with it.
    for part in (data, line[0] if line else b""):
        root = read(part, Problems())
        if root is not None and isinstance(root.value, dict):
            return _path(root.value["control"][1]) if "control" in root.value else None
    return None


def _path(node: Node) -> str | None:
    if isinstance(node.value, dict):
        return _path(node.value["path"][1]) if "path" in node.value else None
    path = Formed(forms.Path).convert(node, "control", Problems())
    return None if path is WRONG else str(path)
