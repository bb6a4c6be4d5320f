"""Line ends: carriage returns added, removed and mended, in whatever pieces a stream comes. Pure."""


class AddCr:
    """Has a CR before every LF."""

    def feed(self, data: bytes) -> bytes:
        """Return what a piece of the stream becomes."""
        return data.replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """Return what is still held back at the end of the stream."""
        return b""


class DelCr:
    """Removes one CR before every LF; others stay."""

    def __init__(self) -> None:
        """Begin a stream."""
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what a piece of the stream becomes; a CR at its end waits for the next one."""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data[: len(data) - len(self._held)].replace(b"\r\n", b"\n")

    def finish(self) -> bytes:
        """Return what is still held back at the end of the stream."""
        held, self._held = self._held, b""
        return held


class FixCr:
    """Has a CR before every LF that has none."""

    def __init__(self) -> None:
        """Begin a stream."""
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        """Return what a piece of the stream becomes."""
        if not data:
            return b""
        before = b"\r" if self._after_cr else b""
        self._after_cr = data.endswith(b"\r")
        return (before + data).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")[len(before) :]
