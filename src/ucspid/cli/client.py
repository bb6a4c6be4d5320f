"""The client of the control protocol: one request, one reply, blocking."""

import contextlib
import os
import pwd
import socket
import time
from collections.abc import Iterator
from typing import Any

from ucspid.errors import ConfigError, PeerError, ResourceError
from ucspid.ipc.control_protocol import (
    MAX_REPLY,
    Failure,
    Request,
    Result,
    decode_reply,
    encode_request,
)

_RECEIVE = 1 << 16
REPLY_TIMEOUT = 30.0
"""Seconds for the reply that comes before lines without end."""


def call(
    path: str | os.PathLike[str], verb: str, args: dict[str, Any], timeout: float, *, to_end: bool = False
) -> dict[str, Any]:
    """Have the daemon whose control socket is at path carry out verb; return the result.

    With to_end, return only when the daemon has closed the connection after its answer.

    Takes at most timeout seconds. Raises ConnectionError if no daemon answers, and what the
    daemon answers otherwise: ConfigError if its configuration file is wrong, ResourceError if
    the system or the daemon failed, PeerError if the daemon refuses the request. PeerError,
    too, if what answers does not speak the protocol, or if the socket is another user's.
    """
    request = encode_request(Request(verb, args))
    deadline = time.monotonic() + timeout
    with _explained(path, timeout), socket.socket(socket.AF_UNIX) as sock:
        reply = _decode(_exchange(sock, os.fspath(path), request, deadline), path)
        while to_end and isinstance(reply, Result) and _receive(sock, deadline):
            """There is nothing more to say, but the end."""
    return _result(reply)


@contextlib.contextmanager
def _explained(path: str | os.PathLike[str], timeout: float) -> Iterator[None]:
    """Say in the errors of the system which daemon is meant, and what to make of them."""
    try:
        yield
    except PermissionError:
        raise PeerError(f"{path}: only {_owner(path)} may control this daemon") from None
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ConnectionError(f"no daemon answers at {path}: {error.strerror}") from None
    except TimeoutError:
        raise ConnectionError(f"the daemon at {path} has not answered within {timeout:g} seconds") from None
    except OSError as error:
        raise ConnectionError(f"no answer from the daemon at {path}: {error.strerror or error}") from None


def lines_of(
    path: str | os.PathLike[str], verb: str, args: dict[str, Any], *, begin: bool = False
) -> Iterator[str]:
    """Yield what the daemon sends after its reply, line by line, until its event loop ends.

    If begin, an empty line comes first, once nothing can be missed any more. Raises what call() raises.
    """
    request = encode_request(Request(verb, args))
    with socket.socket(socket.AF_UNIX) as sock, _explained(path, REPLY_TIMEOUT):
        sock.settimeout(REPLY_TIMEOUT)
        sock.connect(os.fspath(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(request)
        with sock.makefile("rb") as lines:
            reply = lines.readline(MAX_REPLY + 1)
            if not reply:
                raise ConnectionError("it closed the connection")
            _result(_decode(reply, path))
            sock.settimeout(None)
            if begin:
                yield ""
            for line in lines:
                if line.endswith(b"\n"):
                    yield line.decode("utf-8").rstrip("\n")


def _owner(path: str | os.PathLike[str]) -> str:
    """Return who may use a control socket: root, and the user whose socket it is."""
    try:
        uid = os.stat(path).st_uid
    except OSError:
        return "root or the user who started it"
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"user id {uid}"
    return "root" if uid == 0 else f"root or {name}"


def _exchange(sock: socket.socket, path: str, request: bytes, deadline: float) -> bytes:
    """Send the request and return all that comes up to the end of a line or of the connection."""
    reply = bytearray()
    _limit(sock, deadline)
    sock.connect(path)
    # A daemon that turns the client away does so without reading: the reason is there to be read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(request)
    while not reply.endswith(b"\n") and len(reply) <= MAX_REPLY:
        data = _receive(sock, deadline)
        if not data:
            raise ConnectionError("it closed the connection")
        reply += data
    return bytes(reply)


def _receive(sock: socket.socket, deadline: float) -> bytes:
    _limit(sock, deadline)
    return sock.recv(_RECEIVE)


def _decode(line: bytes, path: str | os.PathLike[str]) -> Result | Failure:
    try:
        return decode_reply(line)
    except PeerError as error:
        raise PeerError(f"what answers at {path} is not a ucspid of this version: {error}") from None


def _limit(sock: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _result(reply: Result | Failure) -> dict[str, Any]:
    match reply:
        case Result(result):
            return result
        case Failure("config", error):
            raise ConfigError(error.splitlines())
        case Failure("request", error):
            raise PeerError(error)
        case Failure(_, error):
            raise ResourceError(error)
