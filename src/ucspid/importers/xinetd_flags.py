"""The attributes type, flags and wait of xinetd.conf."""

from ucspid.importers.description import Imported
from ucspid.importers.xinetd_attributes import XinetdAttributes
from ucspid.importers.xinetd_syntax import XinetdEntry

_WITHOUT_EFFECT = {"REUSE", "NORETRY", "NOLIBWRAP", "NAMEINARGS", "IPv4", "IPv6"}
"""Flags that are not needed, or that are looked at elsewhere."""
_SETTINGS = {"NODELAY": "nodelay", "KEEPALIVE": "keepalive"}
_NEEDED = {
    "SENSOR": (
        "SENSOR made the port a trap, whose clients all services refused",
        "use rules that a program writes",
    ),
    "IDONLY": ("IDONLY accepted only clients with an ident server", "write rules with user@ patterns"),
    "INTERCEPT": ("INTERCEPT looked at each packet", "keep xinetd for this service"),
    "LABELED": ("LABELED ran the server in the client's SELinux context", "keep xinetd for this service"),
}
_TYPES = {"RPC", "TCPMUX", "TCPMUXPLUS"}


def set_type(service: Imported, entry: XinetdEntry, attributes: XinetdAttributes) -> bool:
    """Look at type and wait; return whether the service is a part of xinetd."""
    types = attributes.words("type")
    for word in types:
        if word in _TYPES:
            service.cannot(
                attributes["type"].place, f"{word} services have no port of their own", "keep xinetd for it"
            )
    if attributes.first("wait") == "yes":
        service.cannot(
            attributes["wait"].place,
            "wait = yes handed the listening socket to the server",
            "keep xinetd for this service, or run the server's own daemon",
        )
    elif attributes.first("wait") != "no":
        service.cannot(
            entry.place, "there is no wait = no: xinetd does not start it", "add it, or remove the entry"
        )
    return "INTERNAL" in types


def set_flags(service: Imported, entry: XinetdEntry, attributes: XinetdAttributes) -> None:
    """Set what flags say."""
    for flag in attributes.words("flags"):
        place = attributes["flags"].place
        if flag in _SETTINGS:
            service.settings[_SETTINGS[flag]] = True
        elif flag in _NEEDED:
            service.cannot(place, *_NEEDED[flag])
        elif flag not in _WITHOUT_EFFECT:
            service.cannot(place, f"{flag} is no flag: xinetd does not start {entry.name}", "correct it")
