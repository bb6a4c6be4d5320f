"""Files that other servers send to clients."""

from ucspid.config.forms import MAX_MESSAGE
from ucspid.errors import ConfigError
from ucspid.importers.description import Imported, SourceLine
from ucspid.importers.host import Host


def set_banner(service: Imported, place: SourceLine, text: str) -> None:
    """Set what every client is sent at once; note one that is too long."""
    if len(text.encode("utf-8", "surrogateescape")) <= MAX_MESSAGE:
        service.settings["banner"] = text
    else:
        what = f"each client was sent a banner of {len(text)} characters"
        service.note(place, what, f"set banner: to at most {MAX_MESSAGE} bytes of text")


def message_of(service: Imported, place: SourceLine, host: Host, path: str) -> str | None:
    """Return what a file has for clients; None, and a note, if that cannot be a message."""
    try:
        data = host.read(path)
    except (OSError, ConfigError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is too large"
        service.note(place, f"{path}, which clients were sent, cannot be read: {why}", "set the text")
        return None
    if len(data) > MAX_MESSAGE or b"\0" in data:
        service.note(
            place,
            f"clients were sent {path}: {len(data)} bytes",
            f"set a text of at most {MAX_MESSAGE} bytes",
        )
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        service.note(place, f"clients were sent {path}, which is not UTF-8", "set the text")
        return None
