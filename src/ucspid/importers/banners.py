"""Files that other servers send to clients."""

from ucspid.config.forms import MAX_MESSAGE
from ucspid.errors import ConfigError
from ucspid.importers.description import Imported, SourceLine
from ucspid.importers.host import Host


def message_of(service: Imported, place: SourceLine, host: Host, path: str) -> str | None:
    """Return what a file has for refused clients; None, and a note, if that cannot be a message."""
    try:
        data = host.read(path)
    except (OSError, ConfigError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is too large"
        service.note(
            place, f"{path}, which refused clients were sent, cannot be read: {why}", "set refuse_message"
        )
        return None
    if len(data) > MAX_MESSAGE or b"\0" in data:
        service.note(
            place,
            f"refused clients were sent {path}: {len(data)} bytes",
            f"set refuse_message: to at most {MAX_MESSAGE} bytes of text",
        )
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        service.note(place, f"refused clients were sent {path}, which is not UTF-8", "set refuse_message")
        return None
