"""Which user of the client's host has the connection, as that host's ident server says (RFC 1413).

The reply is passed on as tcpserver does it: the user id without any space, tab or carriage
return, cut after MAX_USER bytes, and an empty one for a reply that is an error.
"""

import asyncio
import re
import socket

PORT = 113
MAX_LINE = 1000
"""Bytes of a reply, its end of line included (RFC 1413, section 4)."""
MAX_USER = 257
"""Bytes of a user id that are passed on."""

_REPLY = re.compile(
    rb"[ \t]*([0-9]+)[ \t]*,[ \t]*([0-9]+)[ \t]*:[ \t]*(?:(ERROR)[ \t]*:|USERID[ \t]*:[^:]*:)(.*)",
    re.IGNORECASE | re.DOTALL,
)
_DROPPED = b" \t\r"


def parse_reply(line: bytes, local_port: int, remote_port: int) -> bytes | None:
    r"""Return the user id of a reply without its \n; empty if the reply is an error.

    None if it is not a reply about these ports.
    """
    match = _REPLY.fullmatch(line)
    if match is None or b"\0" in line or b"\n" in line:
        return None
    theirs, ours, is_error, user = match.groups()
    if (theirs.lstrip(b"0"), ours.lstrip(b"0")) != (b"%d" % remote_port, b"%d" % local_port):
        return None
    return b"" if is_error else user.translate(None, _DROPPED)[:MAX_USER]


def any_reply(line: bytes) -> bytes:
    r"""Return what tcpserver takes for the user id in a line without its \n: all after the third colon."""
    user = line.translate(None, _DROPPED).split(b":", 3)[3:]
    return user[0].partition(b"\0")[0] if user else b""


class Ident:
    """Asks ident servers."""

    def __init__(self, port: int = PORT) -> None:
        """Take the port that they listen on."""
        self._port = port

    async def ask(
        self, local_ip: str, remote_ip: str, local_port: int, remote_port: int, *, strict: bool = True
    ) -> bytes | None:
        """Return the user of the connection between these ends as parse_reply() does; None if that fails.

        Unless strict, any line is taken for a reply, as any_reply() does, and what it has read of one that
        is too long.

        Waits for as long as the client's host makes it wait: to be cancelled by the caller.
        """
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in remote_ip else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                sock.bind((local_ip, 0))
                await loop.sock_connect(sock, (remote_ip, self._port))
                await loop.sock_sendall(sock, b"%d , %d\r\n" % (remote_port, local_port))
                line, whole = await _read_line(sock)
        except OSError:
            return None
        if not strict:
            user = any_reply(line)
            return user[:MAX_USER] if whole or len(user) >= MAX_USER else None
        return parse_reply(line, local_port, remote_port) if whole else None


async def _read_line(sock: socket.socket) -> tuple[bytes, bool]:
    """Return what comes before the first end of line, and whether there is one in as much as is read."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < MAX_LINE:
        more = await loop.sock_recv(sock, MAX_LINE - len(data))
        if not more:
            break
        data += more
        line, end, _rest = data.partition(b"\n")
        if end:
            return line, True
    return data, False
