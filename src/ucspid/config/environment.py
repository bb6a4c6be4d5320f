"""The environment of a service that does not change from connection to connection."""

from collections.abc import Mapping, Sequence

from ucspid.policy.environ import inheritable

ALL = "*"
"""In inherit_env: all of the daemon's environment."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def fixed_environment(
    login: Mapping[str, str], inherit: Sequence[str], own: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return all that does not depend on the connection; the later wins.

    A default PATH, the user's login variables, what is inherited from environ, the service's own.
    """
    inherited = inheritable(environ) if ALL in inherit else {}
    inherited |= {name: environ[name] for name in inherit if name in environ}
    return {"PATH": DEFAULT_PATH, **login, **inherited, **own}
