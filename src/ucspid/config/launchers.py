"""Which launcher starts the programs."""

import os
import subprocess
from typing import Literal

from ucspid.config.problems import Problems
from ucspid.ipc.messages import VERSION
from ucspid.launcher.paths import NATIVE
from ucspid.plan import LauncherKind
from ucspid.policy.exit_status import in_words

_TIMEOUT = 5.0
"""Seconds in which the native launcher has to say which version of the protocol it speaks."""


def launcher_kind(wanted: Literal["auto", "native", "python"], problems: Problems) -> LauncherKind:
    """Return the kind that the file asks for; auto takes the native one where it works."""
    if wanted == "python":
        return "python"
    why = _why_not_native()
    if why is None:
        return "native"
    if wanted == "native":
        problems.add("launcher", f"the native launcher cannot be used: {why}")
    return "python"


def _why_not_native() -> str | None:
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
