"""The keys of `lookup`: see schema.py."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec import field as key

from ucspid.config.ruleforms import LocalHost, LookupTime


class LookupSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The names to look up for each connection that the rules may allow."""

    remote_host: Annotated[bool, Meta(description="The client's name in the DNS: TCPREMOTEHOST.")] = False
    paranoid: Annotated[
        bool, Meta(description="Drop a client's name unless it has the client's address; needs remote_host.")
    ] = False
    local_host: Annotated[
        LocalHost,
        Meta(description="TCPLOCALHOST: this name, or with yes what the DNS says of the local address."),
    ] = key(default_factory=lambda: LocalHost(None, look_up=False))
    ident: Annotated[
        bool, Meta(description="The user that the client's ident server returns (RFC 1413): TCPREMOTEINFO.")
    ] = False
    any_ident_reply: Annotated[
        bool, Meta(description="Take any line for an ident server's reply, as tcpserver does.")
    ] = False
    ident_timeout: Annotated[
        LookupTime | None, Meta(description="Time for the ident server, if it is to have less than timeout.")
    ] = None
    timeout: Annotated[
        LookupTime, Meta(description="Time for all lookups together; what is not found by then is not set.")
    ] = key(default_factory=lambda: LookupTime(5))
    before_rules: Annotated[
        bool,
        Meta(
            description="Look up the names of clients whom a rule denies for their address alone, too: "
            "for the log, as tcpserver does."
        ),
    ] = False
