"""The keys of `web`: see schema.py."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec import field as key

from ucspid.config.endpoints import WebListen
from ucspid.config.forms import Account


class WebSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics, health and the status page, by a process of its own: docs/web.md."""

    listen: Annotated[
        WebListen,
        Meta(
            description="Where it listens: an address and a port, or unix: and a path. There are no "
            "passwords and no TLS: whoever reaches it may look."
        ),
    ]
    user: Annotated[Account, Meta(description="Its user, when started as root. Never root.")] = key(
        default_factory=lambda: Account("nobody")
    )
