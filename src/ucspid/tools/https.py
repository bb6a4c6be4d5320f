"""https@ [HOST [PATH [PORT]]]: show the page that a host has at /PATH, over TLS."""

import os

from ucspid.tools.client_tls import ClientTls
from ucspid.tools.connecting import ConnectSettings, UnreachableError, connect
from ucspid.tools.crlf import DelCr
from ucspid.tools.fetch import EXIT_NOT_SHOWN, argument, exchange
from ucspid.tools.http import Body, request
from ucspid.tools.process import ignore_sigpipe
from ucspid.tools.tunnel import Tunnel, occupy_standard


def main(argv: list[bytes]) -> int:
    """Show it, and return the exit code: not 0 unless all of it has come. Raises ToolError."""
    host, path, port = argument(argv, 1, b"0"), argument(argv, 2, b""), argument(argv, 3, b"443")
    occupy_standard()
    ignore_sigpipe()
    settings = ConnectSettings(b"https@")
    tls = ClientTls(settings)
    context = tls.context()
    try:
        sock = connect(settings, host, port)
    except UnreachableError as error:
        return error.code
    tunnel = Tunnel(sock, tls, context, host)
    child = tunnel.start()
    with tunnel.program as program:
        code = exchange(program, request(host, path, port), DelCr(), Body())
    _child, status = os.waitpid(child, 0)
    return code or (EXIT_NOT_SHOWN if status else 0)
