"""Bytes as cat -v shows them: nothing that a terminal would act upon. Pure."""

_CONTROL, _DELETE, _HIGH = 0x20, 0x7F, 0x80
_PLAIN = (0x09, 0x0A)
"""Tab and line feed."""


def _shown(byte: int) -> bytes:
    if byte >= _HIGH:
        low = byte - _HIGH
        return b"M-" + (b"^%c" % (low ^ 0x40) if low < _CONTROL or low == _DELETE else b"%c" % low)
    if byte in _PLAIN or _CONTROL <= byte < _DELETE:
        return b"%c" % byte
    return b"^%c" % (byte ^ 0x40)


_SHOWN = [_shown(byte) for byte in range(256)]


class Visible:
    """A stream of bytes, shown."""

    def feed(self, data: bytes) -> bytes:
        """Return what is shown of a piece."""
        return b"".join([_SHOWN[byte] for byte in data])

    def finish(self) -> bytes:
        """Return what is still held back at the end of the stream."""
        return b""
