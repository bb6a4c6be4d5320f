"""Where the daemon's control socket is: from the command line or from its configuration file.

Only the key control is read of the file. The rest may be wrong at that moment: that is when
someone wants to see the status, or to be told by reload what is wrong.
"""

import argparse
import contextlib
import re
from pathlib import Path
from typing import Any

import yaml

from ucspid.errors import ConfigError

_CONTROL_LINE = re.compile(r"^control[ \t]*:.*$", re.MULTILINE)


def control_path(options: argparse.Namespace) -> Path:
    """Return the path that --control or the file of -c gives; one in the file is relative to the file.

    Raises ConfigError if the file has none or cannot be read.
    """
    if options.control is not None:
        return Path(options.control)
    file = Path(options.config)
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from error
    path = _control_key(text)
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError(
            [f"{file}: no path of a control socket (control: PATH); the option --control gives one"]
        )
    return file.parent / path


def _control_key(text: str) -> Any:
    line = _CONTROL_LINE.search(text)
    # What is not YAML as a whole still has the key, most likely, in the line that begins with it.
    for part in (text, line[0] if line else ""):
        with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
            document = yaml.safe_load(part)
            return document.get("control") if isinstance(document, dict) else None
    return None
