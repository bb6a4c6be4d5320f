"""The environment of a service that does not change from connection to connection."""

from collections.abc import Mapping, Sequence

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_BYTES = 96 << 10
"""What arguments and environment of one service may take together: one message to a launcher."""


def fixed_environment(
    inherit: Sequence[str], own: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return a default PATH, then what is inherited from environ, then the service's own; the later wins."""
    inherited = {name: environ[name] for name in inherit if name in environ}
    return {"PATH": DEFAULT_PATH, **inherited, **own}


def too_long(argv: Sequence[str], env: Mapping[str, str]) -> str | None:
    """Return why arguments and environment are too long; None if they are not."""
    texts = [*argv, *(f"{name}={value}" for name, value in env.items())]
    length = sum(len(text.encode("utf-8", "surrogateescape")) + 1 for text in texts)
    if length <= MAX_BYTES:
        return None
    return f"arguments and environment take {length} bytes together, at most {MAX_BYTES} are allowed"
