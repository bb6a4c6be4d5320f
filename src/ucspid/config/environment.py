"""The environment of a service that does not change from connection to connection."""

from collections.abc import Mapping, Sequence

from ucspid.policy.environ import inheritable

ALL = "*"
"""In inherit_env: all of the daemon's environment."""

MANAGER_NAMES = (
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS",
    "LISTEN_FDNAMES", "FDSTORE", "SYSTEMD_EXEC_PID", "MAINPID",
)  # fmt: skip
"""By which systemd and the daemon speak with each other: with them a program could speak for the daemon."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def fixed_environment(
    login: Mapping[str, str], inherit: Sequence[str], own: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return all that does not depend on the connection; the later wins.

    A default PATH, the user's login variables, what is inherited from environ, the service's own.
    MANAGER_NAMES are not inherited.
    """
    inherited = inheritable(environ) if ALL in inherit else {}
    inherited |= {name: environ[name] for name in inherit if name in environ}
    inherited = {name: value for name, value in inherited.items() if name not in MANAGER_NAMES}
    return {"PATH": DEFAULT_PATH, **login, **inherited, **own}
