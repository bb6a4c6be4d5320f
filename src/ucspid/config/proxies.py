"""The keys of `proxy`: see schema.py."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec import field as key

from ucspid.config.endpoints import Balancer
from ucspid.config.ruleforms import LookupTime
from ucspid.plan import Proxy

MAX_PENDING = 65536


class ProxySection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The PROXY protocol: balancers say for whom they speak. Examples are in docs/proxy.md."""

    from_: Annotated[
        list[Balancer],
        Meta(
            min_length=1,
            extra={"single": True},
            description="The balancers: each connection from there must begin with a header.",
        ),
    ] = key(name="from")
    versions: Annotated[
        list[Annotated[int, Meta(ge=1, le=2)]],
        Meta(
            min_length=1,
            extra={"single": True},
            description="The versions of the header that are accepted.",
        ),
    ] = key(default_factory=lambda: [1, 2])
    timeout: Annotated[LookupTime, Meta(description="How long a header may take.")] = key(
        default_factory=lambda: LookupTime(3)
    )
    others: Annotated[
        Literal["refuse", "direct"],
        Meta(description="Peers that are no balancers: they are refused, or served as the clients they are."),
    ] = "refuse"
    max_pending: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_PENDING)],
        Meta(description="Connections that may wait at once for their header, and for lookups."),
    ] = 256


def planned(given: ProxySection | None) -> Proxy | None:
    """Return the section as a plan has it."""
    if given is None:
        return None
    return Proxy(
        from_=tuple(map(str, given.from_)),
        versions=tuple(sorted(set(given.versions))),
        timeout=float(given.timeout),
        others=given.others,
        max_pending=given.max_pending,
    )
