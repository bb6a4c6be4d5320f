"""Names of the DNS and its packets, as the resolver of the originals reads and writes them. Pure."""

from __future__ import annotations

import errno

A, PTR, TXT, AAAA = 1, 12, 16, 28
IN = 1
HEADER_BYTES = 12
MAX_NAME = 255
MAX_LABEL = 63
MAX_STEPS = 1000
"""After so many labels and pointers a name is taken for endless."""

_POINTER = 0xC0
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
_OCTAL = frozenset(b"01234567")


def malformed() -> OSError:
    """Return the error for a name or a packet that is not one."""
    return OSError(errno.EPROTO, "malformed")


def encode(name: bytes) -> bytes:
    r"""Return a name as it is in packets; a backslash and up to three octal digits are one byte, \. a dot.

    Empty labels do not count. Raises OSError if a label or the name is too long.
    """
    labels = [bytearray()]
    position = 0
    while position < len(name):
        byte = name[position]
        position += 1
        if byte == ord("."):
            labels.append(bytearray())
            continue
        if byte == ord("\\"):
            byte, position = _escaped(name, position)
            if byte < 0:
                break
        labels[-1].append(byte)
    if any(len(label) > MAX_LABEL for label in labels):
        raise malformed()
    wire = b"".join(bytes((len(label),)) + label for label in labels if label) + b"\0"
    if len(wire) > MAX_NAME:
        raise malformed()
    return wire


def _escaped(name: bytes, position: int) -> tuple[int, int]:
    """Return the byte that is written after a backslash and where it ends; -1 if nothing is."""
    digits = 0
    while digits < 3 and position + digits < len(name) and name[position + digits] in _OCTAL:  # noqa: PLR2004
        digits += 1
    if digits:
        return int(name[position : position + digits], 8) % 256, position + digits
    return (name[position], position + 1) if position < len(name) else (-1, position)


def decode(wire: bytes) -> bytes:
    """Return the text of a name from a packet: lower case, odd bytes as backslash and three octal digits."""
    if wire == b"\0":
        return b"."
    labels = []
    position = 0
    while wire[position]:
        label = wire[position + 1 : position + 1 + wire[position]].lower()
        labels.append(b"".join(b"%c" % byte if byte in _PLAIN else b"\\%03o" % byte for byte in label))
        position += 1 + len(label)
    return b".".join(labels)


def reverse(address: bytes) -> bytes:
    """Return the name, as it is in packets, at which the names of an address of 4 or 16 bytes are found."""
    if len(address) == 4:  # noqa: PLR2004 - IPv4
        return encode(b".".join(b"%d" % byte for byte in reversed(address)) + b".in-addr.arpa")
    return encode(nibbles(address) + b"ip6.arpa")


def nibbles(address: bytes) -> bytes:
    """Return the nibbles of an IPv6 address from the last to the first, each with a dot after it."""
    return b"".join(b"%x.%x." % (byte & 15, byte >> 4) for byte in reversed(address))


def query(identity: bytes, name: bytes, kind: int) -> bytes:
    """Return the question of a resolver, which the server may ask others."""
    return b"%b\1\0\0\1\0\0\0\0\0\0%b\0%c\0\1" % (identity, name, kind)


def answers_to(packet: bytes, asked: bytes) -> bool:
    """Return whether a packet is a reply to a query: its number and its question are the same."""
    try:
        name, end = read_name(packet, HEADER_BYTES)
    except OSError:
        return False
    question_end = len(asked) - len(b"\0\1\0\1")
    return (
        packet[:2] == asked[:2]
        and packet[4:6] == b"\0\1"
        and name.lower() == asked[HEADER_BYTES:question_end].lower()
        and packet[end : end + 4] == asked[question_end:]
    )


def is_truncated(packet: bytes) -> bool:
    """Return whether the whole reply has to be asked for by TCP."""
    return bool(packet[2] & 2)


def failed(packet: bytes) -> bool:
    """Return whether the server could not say; that a name does not exist is an answer."""
    return packet[3] & 15 not in {0, 3}


def records(packet: bytes, kind: int) -> list[tuple[int, bytes]]:
    """Return the data of all answers of a type, each with its place in the packet. Raises OSError."""
    found = []
    position = skip_name(packet, HEADER_BYTES) + 4
    for _ in range(int.from_bytes(packet[6:8])):
        position = skip_name(packet, position)
        head = packet[position : position + 10]
        if len(head) < 10:  # noqa: PLR2004 - type, class, time to live, length
            raise malformed()
        position += 10
        length = int.from_bytes(head[8:])
        if int.from_bytes(head[:2]) == kind and int.from_bytes(head[2:4]) == IN:
            if position + length > len(packet):
                raise malformed()
            found.append((position, packet[position : position + length]))
        position += length
    return found


def skip_name(packet: bytes, position: int) -> int:
    """Return where a name ends. Raises OSError."""
    while position < len(packet):
        length = packet[position]
        if length >= _POINTER:
            return position + 2
        if length > MAX_LABEL:
            break
        position += 1 + length
        if not length:
            return position
    raise malformed()


def read_name(packet: bytes, position: int) -> tuple[bytes, int]:
    """Return a name, pointers followed, and where it ends. Raises OSError."""
    name = b""
    end = 0
    for _ in range(MAX_STEPS):
        length = packet[position] if position < len(packet) else MAX_NAME
        if length >= _POINTER and position + 1 < len(packet):
            end = end or position + 2
            position = (length - _POINTER) << 8 | packet[position + 1]
            continue
        if length > MAX_LABEL or position + 1 + length > len(packet):
            break
        name += packet[position : position + 1 + length]
        position += 1 + length
        if len(name) > MAX_NAME:
            break
        if not length:
            return name, end or position
    raise malformed()


def addresses(packet: bytes, kind: int) -> list[bytes]:
    """Return the addresses of a reply. Raises OSError."""
    size = 4 if kind == A else 16
    return [data for _place, data in records(packet, kind) if len(data) == size]


def texts(packet: bytes) -> bytes:
    """Return all texts of a reply, one after the other; bytes that cannot be printed as ?. Raises OSError."""
    text = b""
    for _place, data in records(packet, TXT):
        while data:
            text += data[1 : 1 + data[0]]
            data = data[1 + data[0] :]  # noqa: PLW2901 - the rest
    return bytes(byte if 32 <= byte <= 126 else ord("?") for byte in text)  # noqa: PLR2004 - ASCII


def first_name(packet: bytes) -> bytes:
    """Return the first name of a reply, empty if there is none. Raises OSError."""
    for place, _data in records(packet, PTR):
        return decode(read_name(packet, place)[0])
    return b""


def literal(name: bytes) -> list[bytes] | None:
    """Return the IPv4 addresses that a name consists of, None if it has to be looked up.

    [192.0.2.7] and 192.0.2.7 are one; of numbers that are not enough for an address nothing remains.
    """
    numbers = bytearray()
    value = 0
    for byte in name + b".":
        if byte == ord("."):
            numbers.append(value)
            value = 0
        elif ord("0") <= byte <= ord("9"):
            value = (10 * value + byte - ord("0")) % 256
        elif byte not in b"[]":
            return None
    return [bytes(numbers[start : start + 4]) for start in range(0, len(numbers) - 3, 4)]
