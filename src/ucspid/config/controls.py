"""The keys of `control`: see schema.py."""

from typing import Annotated

from msgspec import Meta, Struct

from ucspid.config.forms import Account, FileMode, Path


class ControlSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The control socket, and who besides root and the user who starts the daemon may use it."""

    path: Annotated[
        Path,
        Meta(
            description="Path of the socket, relative to the file's directory. Its directory is created if "
            "it is missing."
        ),
    ]
    group: Annotated[Account | None, Meta(description="The group of the socket.")] = None
    mode: Annotated[
        FileMode | None,
        Meta(
            description="Permissions of the socket. Whom w alone lets in may look: status, sessions, denied, "
            "tail; with r and w all verbs. Without it 0600, with a group 0620."
        ),
    ] = None
