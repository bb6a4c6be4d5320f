"""Host names from the DNS, in the form in which programs get them. Pure.

It is the form of tcpserver's resolver: lower case, without a dot at the end, and each byte that
is not a letter, a digit, a hyphen or an underscore as a backslash and three octal digits. So a
dot inside a label differs from one between labels, and no byte is left that could do harm.
"""

import re

MAX_BYTES = 255
"""Bytes of a name in a DNS message: a length before each label, and one for the root (RFC 1035, 2.3.4)."""

_PLAIN = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_PIECE = re.compile(r"\\([0-9]{3})|\\(.)|(.)", re.DOTALL)
_UNESCAPED = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


def hostname(text: str) -> bytes | None:
    r"""Return a name that is given in the notation of zone files (RFC 1035, 5.1: \. and \DDD).

    None for the root, which is nobody's name, and for what is not a possible name.
    """
    text = text.lower()
    if len(text) + 2 <= MAX_BYTES and _PLAIN.fullmatch(text):
        return text.encode()
    try:
        labels = _labels(text)
    except ValueError:
        return None
    if not labels[-1]:
        labels.pop()
    if not labels or not all(labels) or sum(len(label) + 1 for label in labels) + 1 > MAX_BYTES:
        return None
    return b".".join(b"".join(_ESCAPED[octet] for octet in label) for label in labels)


def _labels(text: str) -> list[bytearray]:
    """Return a name's labels, the last one empty after a dot at the end. ValueError for what is no octet."""
    labels = [bytearray()]
    for decimal, escaped, plain in _PIECE.findall(text):
        if plain == ".":
            labels.append(bytearray())
        else:
            labels[-1].append(int(decimal) if decimal else ord(escaped or plain))
    return labels


def _told(octet: int) -> bytes:
    return bytes((octet,)) if octet in _UNESCAPED else b"\\%03o" % octet


_ESCAPED = [_told(octet) for octet in range(256)]
