"""The services that inetd and xinetd have inside, as programs that do the same."""

INTERNAL: dict[str, list[str]] = {
    "echo": ["/bin/cat"],
    "discard": ["/bin/sh", "-c", "exec cat >/dev/null"],
    "daytime": ["/bin/sh", "-c", "exec date '+%a %b %e %H:%M:%S %Y\r'"],
}
"""Service by name; time and chargen have no program that every host has."""

USER = "nobody"
"""Whom they run as; in inetd they were part of a process of root."""
