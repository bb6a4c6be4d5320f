"""TLS for a client: the handshake, and then a child that has the connection and encrypts.

In place of the connection, the client has one end of a socket pair, with which it may become another program.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal takes 3 ms to import, for its enums
import os
import socket
import time

from ucspid.tls.relay import PeerEnd, Relay
from ucspid.tls.variables import COMMON, common, fingerprint_of, strings
from ucspid.tools.copying import Copying, ready
from ucspid.tools.messages import EXIT_SYSTEM, ToolError, system_error, write_line
from ucspid.tools.sockets import packed, packed_ipv6, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import ssl

    from ucspid.tools.client_tls import ClientTls

EXIT_TLS = 98
"""TLS failed: the server is not the one that is meant, or does not agree; as of s6-tlsc-io."""
_FIRST = 3
"""The first descriptor that is not a standard one."""


class Tunnel:
    """A connection, first in the client's process, and then in that of a child."""

    def __init__(
        self, sock: _socket.socket, choices: ClientTls, context: ssl.SSLContext, host: bytes
    ) -> None:
        """Shake hands on a connected socket, which is the tunnel's from now on. Raises ToolError."""
        self._choices = choices
        self._fatal = choices.settings.fatal
        try:
            peer = sock.getpeername()
        except OSError as error:
            raise system_error(error, self._fatal, b"unable to get remote address: ") from None
        remote_ip = packed(peer[0])
        self._server = text_of(remote_ip) + b" port %d" % peer[1]
        self._name = choices.server_name(host, remote_ip)
        try:
            self.program, relay_end = socket.socketpair()
        except OSError as error:
            raise system_error(error, self._fatal, b"unable to create socket pair: ") from None
        connection = socket.socket(fileno=sock.detach())
        self.relay = Relay(connection, relay_end, context, server_hostname=self._name)
        self._shake_hands()

    def _shake_hands(self) -> None:
        relay, seconds = self.relay, self._choices.seconds
        deadline = time.monotonic() + seconds
        while True:
            relay.turn(program=False)
            if relay.shaken:
                return
            if relay.done:
                code = EXIT_TLS if relay.end is PeerEnd.BROKEN else EXIT_SYSTEM
                raise self._failure(code, relay.problem)
            left = deadline - time.monotonic()
            if left <= 0 or not ready(relay, left):
                raise self._failure(EXIT_SYSTEM, "timed out")

    def _failure(self, code: int, why: str) -> ToolError:
        what = self._fatal + b"unable to start TLS with "
        return ToolError(code, what, self._server, b": ", why.rstrip(".").encode())

    def describe(self, variables: dict[bytes, bytes]) -> None:
        """Set the variables of a handshake; what is not known is unset."""
        tls = self.relay.tls
        name = None if _is_address(self._name) else self._name
        fingerprint = fingerprint_of(tls.getpeercert(binary_form=True))
        for unset in COMMON:
            variables.pop(unset.encode(), None)
        version, cipher = tls.version() or "", tls.cipher() or ("", "", 0)
        for item in strings(common(version, cipher, name, fingerprint, dict(tls.getpeercert() or {}))):
            variable, _equals, value = item.partition(b"=")
            variables[variable] = value

    def start(self) -> int:
        """Have a child copy from now on; return its process id. Raises ToolError.

        Our end is the attribute program.
        """
        try:
            child = os.fork()
        except OSError as error:
            raise system_error(error, self._fatal, b"unable to fork: ") from None
        if not child:
            self.program.close()
            self._be_the_child()
        self.relay.close()
        return child

    def _be_the_child(self) -> None:
        """Copy, and exit: with 0 if the server has ended its data as TLS demands."""
        code = EXIT_TLS
        try:
            _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
            _keep_only(self.relay)
            Copying(self.relay, self._report).run()
            code = 0 if self.relay.end is PeerEnd.CLOSED else EXIT_TLS
        finally:
            os._exit(code)

    def _report(self, gone: bool) -> None:
        """Say how the connection broke, unless it was when the program was gone: then it does not matter."""
        relay = self.relay
        if self._choices.settings.quiet or relay.end is PeerEnd.CLOSED:
            return
        if gone and relay.end is not PeerEnd.BROKEN:
            return
        if relay.end is PeerEnd.TRUNCATED:
            why = "it ended without close_notify, so something may be missing"
        else:
            why = relay.problem
        warning = self._choices.settings.tool + b": warning: connection to "
        write_line(warning, self._server, b" broken: ", why.encode())


def occupy_standard() -> None:
    """Have no descriptor below 3 that may become a socket's; programs find those that were closed closed."""
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) < _FIRST:
        pass
    os.close(descriptor)


def _is_address(name: str) -> bool:
    if packed_ipv6(name.encode()) is not None:
        return True
    try:
        socket.inet_pton(socket.AF_INET, name)
    except OSError:
        return False
    return True


def _keep_only(relay: Relay) -> None:
    """Close what a child has of its client's, but for standard error; 0 and 1 become /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    first = _FIRST
    for kept in sorted((relay.client.sock.fileno(), relay.program.sock.fileno())):
        os.closerange(first, kept)
        first = max(first, kept + 1)
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
