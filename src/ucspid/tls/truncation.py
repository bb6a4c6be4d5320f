"""A TLS connection that ends without close_notify: what was cut off must not look complete (RFC 8446, 6.1).

Pythons differ: 3.11 before 3.11.4, Debian 12's too, has OpenSSL take such an end for an orderly one, and if
that is switched off, raises an SSLError that is no SSLEOFError.
"""

import ssl


def reveal(context: ssl.SSLContext) -> None:
    """Have the connections of a context say that their end came without close_notify."""
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF


def is_truncation(problem: ssl.SSLError) -> bool:
    """Say whether it means that the connection ended without close_notify."""
    return isinstance(problem, ssl.SSLEOFError) or problem.reason == "UNEXPECTED_EOF_WHILE_READING"
