"""Which launcher starts the programs."""

from typing import Literal

from ucspid.config.problems import Problems
from ucspid.launcher.usable import why_not_native
from ucspid.plan import LauncherKind


def launcher_kind(wanted: Literal["auto", "native", "python"], problems: Problems) -> LauncherKind:
    """Return the kind that the file asks for; auto takes the native one where it works."""
    if wanted == "python":
        return "python"
    why = why_not_native()
    if why is None:
        return "native"
    if wanted == "native":
        problems.add("launcher", f"the native launcher cannot be used: {why}")
    return "python"
