#!/usr/bin/env python3
"""A CVM module for mailfront: knows user "joe" with password "secret", who is this process's user or nobody.

A request is a version, the length of random bytes and these, then tagged strings (tag, length,
text), then NUL; the answer is a status (0, or 100 for a wrong password), the same random bytes, tagged
strings, NUL. http://untroubled.org/cvm/protocol-2.html
"""

import os
import sys

ACCOUNT, PASSWORD = 1, 3
NAME, USER, GROUP, DIRECTORY = 1, 2, 3, 5
VERSION, REFUSED = 2, 100
NOBODY = 65534


def strings(data: bytes) -> dict[int, bytes]:
    """Return tagged strings by their tags."""
    found = {}
    while data[0]:
        end = 2 + data[1]
        found[data[0]] = data[2:end]
        data = data[end:]
    return found


def main() -> int:
    """Answer the request on descriptor 0."""
    request = sys.stdin.buffer.read()
    start = 2 + request[1]
    credentials = strings(request[start:])
    if (request[0], credentials[ACCOUNT], credentials[PASSWORD]) != (VERSION, b"joe", b"secret"):
        sys.stdout.buffer.write(bytes([REFUSED]) + request[1:start] + b"\0")
        return REFUSED
    user, group = (os.geteuid(), os.getegid()) if os.geteuid() else (NOBODY, NOBODY)
    facts = {NAME: b"joe", USER: b"%d" % user, GROUP: b"%d" % group, DIRECTORY: b"."}
    answer = b"".join(bytes([tag, len(value)]) + value for tag, value in facts.items())
    sys.stdout.buffer.write(b"\0" + request[1:start] + answer + b"\0")
    return 0


sys.exit(main())
