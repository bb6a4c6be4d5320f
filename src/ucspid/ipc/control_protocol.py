"""The control protocol, version 1: bounded lines of JSON between the daemon and its control clients.

A codec without I/O, for both ends: ucspid.control and ucspid.cli.client. docs/protocol-control.md
describes the protocol.
"""

import json
from typing import Any, NoReturn

from ucspid.errors import PeerError
from ucspid.records import dataclass

VERSION = 1
MAX_REQUEST = 4096
"""Bytes of a request at most, with its newline."""
MAX_REPLY = 16 << 20
"""Bytes of a reply at most, with its newline: the status of thousands of services."""

_MAX_ERROR = 1 << 20  # characters; one takes at most 12 bytes in JSON, so the reply stays in bounds


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for."""

    verb: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """The reply to a request that was carried out."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The reply to a request that was not carried out.

    kind says whose fault it is: "request" (the client's), "config" (the configuration
    file's), "system" (the system refused something), "internal" (the daemon's).
    """

    kind: str
    error: str


def encode_request(request: Request) -> bytes:
    """Return the request as a line. Raises PeerError if it is larger than MAX_REQUEST."""
    line = _encode({"v": VERSION, "verb": request.verb, "args": request.args})
    if len(line) > MAX_REQUEST:
        raise PeerError(f"the request is larger than {MAX_REQUEST} bytes")
    return line


def decode_request(line: bytes) -> Request:
    """Return the request that the line is. Raises PeerError for anything else."""
    match _decode(line, MAX_REQUEST, "request"):
        case {"verb": str(verb), "args": dict(args), **rest} if not rest:
            return Request(verb, args)
    raise PeerError("a request has the members v, verb (a string) and args (an object), and no other")


def encode_reply(reply: Result | Failure) -> bytes:
    """Return the reply as a line; an error of more than a mebibyte is cut.

    Raises ValueError if a result is larger than MAX_REPLY, TypeError or ValueError if it is not JSON.
    """
    if isinstance(reply, Failure):
        return _encode({"v": VERSION, "ok": False, "kind": reply.kind, "error": reply.error[:_MAX_ERROR]})
    members = b",".join(b"%b:%b" % (_json(name), _member(value)) for name, value in reply.result.items())
    line = b'{"v":%d,"ok":true,"result":{%b}}\n' % (VERSION, members)
    if len(line) > MAX_REPLY:
        raise ValueError(f"a result of {len(line)} bytes is larger than {MAX_REPLY}")
    return line


def decode_reply(line: bytes) -> Result | Failure:
    """Return the reply that the line is. Raises PeerError for anything else."""
    match _decode(line, MAX_REPLY, "reply"):
        case {"ok": True, "result": dict(result), **rest} if not rest:
            return Result(result)
        case {"ok": False, "kind": str(kind), "error": str(error), **rest} if not rest:
            return Failure(kind, error)
    raise PeerError("a reply has the members v and ok with either result, or kind and error")


def _encode(message: dict[str, Any]) -> bytes:
    return _json(message) + b"\n"


def _member(value: Any) -> bytes:
    """Return a member of a result, a list item by item: at once it would take five times its memory."""
    return b"[%b]" % b",".join(map(_json, value)) if isinstance(value, list) else _json(value)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _decode(line: bytes, limit: int, what: str) -> dict[str, Any]:
    """Return the members of the message but for v, which is checked."""
    if len(line) > limit or not line.endswith(b"\n"):
        raise PeerError(f"a {what} has at most {limit} bytes, of which the last is a newline")
    try:
        message = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        # UnicodeDecodeError and JSONDecodeError are ValueErrors; deep nesting is the other.
        raise PeerError(f"a {what} is one line of JSON in UTF-8: {error}") from None
    if not isinstance(message, dict):
        raise PeerError(f"a {what} is a JSON object")
    version = message.pop("v", None)
    if version is not VERSION:
        raise PeerError(
            f"this is version {VERSION} of the control protocol, the {what} has v: {version!r:.40}"
        )
    return message


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
