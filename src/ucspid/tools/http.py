"""http@ [HOST [PATH [PORT]]]: show the page that a host has at /PATH."""

from ucspid.tools.crlf import AddCr, DelCr
from ucspid.tools.fetch import argument, fetch


class Body:
    """What comes after the header, without empty lines: there the original's awk has none either. Pure."""

    def __init__(self) -> None:
        """Begin with the header."""
        self._reached = False
        self._line_is_empty = True

    def feed(self, data: bytes) -> bytes:
        """Return what a piece of the answer becomes."""
        shown = []
        for number, part in enumerate(data.split(b"\n")):
            if number:
                shown.append(self._end_line())
            if part:
                self._line_is_empty = False
                if self._reached:
                    shown.append(part)
        return b"".join(shown)

    def finish(self) -> bytes:
        """Return what ends the last line, if it was not ended."""
        return b"" if self._line_is_empty else self._end_line()

    def _end_line(self) -> bytes:
        shown = b"\n" if self._reached and not self._line_is_empty else b""
        self._reached = self._reached or self._line_is_empty
        self._line_is_empty = True
        return shown


def main(argv: list[bytes]) -> int:
    """Show it, and return the exit code."""
    host, path, port = argument(argv, 1, b"0"), argument(argv, 2, b""), argument(argv, 3, b"80")
    return fetch(host, port, request(host, path, port), DelCr(), Body())


def request(host: bytes, path: bytes, port: bytes) -> bytes:
    """Return what asks for a page."""
    return AddCr().feed(b"GET /%b HTTP/1.0\nHost: %b:%b\n\n" % (path, host, port))
