"""The environment of a service that does not change from connection to connection."""

from collections.abc import Mapping, Sequence

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_BYTES = 96 << 10
"""What arguments and environment of one service may take together: one message to a launcher."""
_LENGTH = 4
"""Bytes that such a message takes for each text besides the text."""


def fixed_environment(
    login: Mapping[str, str], inherit: Sequence[str], own: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return all that does not depend on the connection; the later wins.

    A default PATH, the user's login variables, what is inherited from environ, the service's own.
    """
    inherited = {name: environ[name] for name in inherit if name in environ}
    return {"PATH": DEFAULT_PATH, **login, **inherited, **own}


def too_long(argv: Sequence[str], env: Sequence[tuple[str, str]], rule_env: Sequence[str]) -> str | None:
    """Return why what a launcher is told of a service is too long for a message; None if it is not.

    rule_env are the names of the variables that rules may set.
    """
    texts = [*argv, *(f"{name}={value}" for name, value in env), *rule_env]
    length = sum(len(text.encode("utf-8", "surrogateescape")) + _LENGTH for text in texts)
    if length <= MAX_BYTES:
        return None
    names = ", with the names of the variables that rules set," if rule_env else ""
    return f"arguments and environment{names} take {length} bytes together, at most {MAX_BYTES} are allowed"
