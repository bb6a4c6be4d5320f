"""Whether the native launcher works here."""

import os
import subprocess

from ucspid.ipc.messages import VERSION
from ucspid.launcher.paths import NATIVE
from ucspid.policy.exit_status import in_words

_TIMEOUT = 5.0
"""Seconds in which the native launcher has to say which version of the protocol it speaks."""


def why_not_native() -> str | None:
    """Return why the native launcher cannot be used, in words; None if it can."""
    if not os.path.exists(NATIVE):
        return "it was not built: that takes a C compiler (cc), on x86-64 or aarch64; install ucspid again"
    try:
        ended = subprocess.run(
            [NATIVE, "--protocol"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{NATIVE} hangs"
    except OSError as problem:
        return f"{NATIVE}: {problem.strerror}"
    if ended.returncode:
        return f"{NATIVE} does not run here: {in_words(ended.returncode)}"
    return None if ended.stdout == b"%d\n" % VERSION else f"{NATIVE} is of another version"
