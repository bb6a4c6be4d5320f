"""The keys of `log`: see schema.py."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class LogSection(Struct, frozen=True, forbid_unknown_fields=True):
    """How the log is written to standard error."""

    format: Annotated[
        Literal["auto", "console", "json", "logfmt", "tcpserver"],
        Meta(
            description="Lines for people, JSON lines, KEY=VALUE lines, what tcpserver -v writes; or auto: "
            "console on a terminal, systemd's journal with its fields, json elsewhere."
        ),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error", "none"],
        Meta(description="The lowest level of events to log; none logs nothing."),
    ] = "info"
    clients: Annotated[
        Literal["full", "prefix", "hashed"],
        Meta(
            description="What is shown of clients: their addresses, the first 24 bits of these (IPv6: 48), "
            "or words that stand for addresses for a day."
        ),
    ] = "full"
    connection_started: Annotated[
        Literal["debug", "info"], Meta(description="The level of the event connection_started.")
    ] = "debug"
