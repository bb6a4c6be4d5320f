"""tlsclient [OPTIONS] HOST PORT PROGRAM [ARG …]: connect, start TLS, and become the program.

It has one end of a socket pair as descriptors 6 and 7. A child has the connection, and encrypts.
"""

from __future__ import annotations

from ucspid.tools import tcpclient
from ucspid.tools.client_tls import ClientTls
from ucspid.tools.connecting import MAX_SECONDS, ConnectSettings, connect
from ucspid.tools.messages import EXIT_USAGE, ToolError, write_line
from ucspid.tools.options import Options, number
from ucspid.tools.process import environment
from ucspid.tools.tunnel import Tunnel, occupy_standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

USAGE = (
    b"tlsclient: usage: tlsclient [ -46dDhHnqQrRv ] [ -a cafile ] [ -A cadir ] [ -c certfile ] "
    b"[ -i localip ] [ -I interface ] [ -k name ] [ -K keyfile ] [ -l localname ] [ -p localport ] "
    b"[ -t timeoutinfo ] [ -T timeoutconn ] [ -w timeouttls ] host port program"
)
LETTERS = f"{tcpclient.LETTERS}na:A:c:k:K:w:"
_VALUES = {
    "a": "authorities",
    "A": "authorities_folder",
    "c": "certificate",
    "k": "name",
    "K": "key",
}
"""Options with a text: which choice it is."""


def main(argv: list[bytes]) -> int:
    """Become the program, or return the exit code. Raises ToolError."""
    tcpclient.begin()
    occupy_standard()
    settings = ConnectSettings(b"tlsclient")
    choices, tls = tcpclient.Choices(settings, USAGE), ClientTls(settings)
    options = Options(argv, LETTERS)
    for letter, value in options:
        if letter in _VALUES:
            setattr(tls, _VALUES[letter], value)
        elif letter == "n":
            tls.verify = False
        elif letter == "w":
            tls.seconds = number(value) % MAX_SECONDS
        else:
            tcpclient.choose(choices, letter, value)

    def run(choices: tcpclient.Choices, words: list[bytes]) -> NoReturn:
        _run(choices, tls, words)

    return tcpclient.run_client(choices, options.rest, run)


def _run(choices: tcpclient.Choices, tls: ClientTls, words: list[bytes]) -> NoReturn:
    if tls.key is not None and tls.certificate is None:
        raise ToolError(EXIT_USAGE, USAGE)
    context = tls.context()
    sock = connect(choices.settings, words[0], words[1])
    variables = environment()
    tcpclient.describe(sock, choices, variables)
    tunnel = Tunnel(sock, tls, context, words[0])
    tunnel.describe(variables)
    if choices.verbosity > 1:
        write_line(b"tlsclient: ", b" ".join((variables[b"SSL_PROTOCOL"], variables[b"SSL_CIPHER"])))
    if not tls.verify and choices.verbosity:
        write_line(b"tlsclient: warning: the server is not verified (-n)")
    tunnel.start()
    tcpclient.become(choices, tunnel.program.detach(), words[2:], variables)
