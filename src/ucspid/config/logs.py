"""The keys of `log`: see schema.py."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class LogSection(Struct, frozen=True, forbid_unknown_fields=True):
    """How the log is written to standard error."""

    format: Annotated[
        Literal["auto", "console", "json", "tcpserver"],
        Meta(
            description="Lines for people, JSON lines, or auto: console on a terminal, json otherwise. "
            "tcpserver writes what tcpserver -v does."
        ),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error", "none"],
        Meta(description="The lowest level of events to log; none logs nothing."),
    ] = "info"
