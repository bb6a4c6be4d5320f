"""How a client verifies a server, and what it shows it: from the options of tlsclient to a context of ssl."""

from __future__ import annotations

import os
import ssl

from ucspid.tls.truncation import reveal
from ucspid.tools import domain
from ucspid.tools.connecting import ConnectSettings
from ucspid.tools.messages import EXIT_USAGE, ToolError, reason
from ucspid.tools.sockets import packed_ipv6, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_FILES = 96
"""A certificate, a key or an authority cannot be used; as of s6-tlsc-io."""
SECONDS = 26
"""For a handshake."""


class ClientTls:
    """The choices; by default the system's authorities have to vouch for the name of the host."""

    def __init__(self, settings: ConnectSettings) -> None:
        """Have the defaults."""
        self.settings = settings
        self.name: bytes | None = None
        """The name in the server's certificate, if it is not the host's."""
        self.verify = True
        self.authorities: bytes | None = None
        """A file of certificates, in place of the system's."""
        self.authorities_folder: bytes | None = None
        self.certificate: bytes | None = None
        self.key: bytes | None = None
        self.seconds = SECONDS

    def context(self) -> ssl.SSLContext:
        """Return what handshakes are made with. Raises ToolError if a file cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        reveal(context)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.authorities is None and self.authorities_folder is None:
            context.load_default_certs()
        if self.authorities is not None:
            self._use(self.authorities, lambda path: context.load_verify_locations(cafile=path))
        if self.authorities_folder is not None:
            self._use(self.authorities_folder, lambda path: _load_folder(context, path))
        if self.certificate is not None:
            self._use(self.certificate, lambda path: self._load_certificate(context, path))
        return context

    def _use(self, path: bytes, load: Callable[[bytes], None]) -> None:
        what = self.settings.fatal + b"unable to use "
        try:
            load(path)
        except ssl.SSLError as problem:
            why = (problem.reason or "it is not what it should be").lower().replace("_", " ")
            raise ToolError(EXIT_FILES, what, path, b": ", why.encode()) from None
        except OSError as problem:
            found = problem.filename if isinstance(problem.filename, bytes) else path
            raise ToolError(EXIT_FILES, what, found, b": ", reason(problem)) from None

    def _load_certificate(self, context: ssl.SSLContext, path: bytes) -> None:
        key = path if self.key is None else self.key
        os.stat(key)  # ssl does not say which of the two is missing
        context.load_cert_chain(path, key, self._refuse_password)

    def _refuse_password(self) -> bytes:
        """Do not let OpenSSL ask for one on the terminal."""
        what = self.settings.fatal + b"unable to use "
        raise ToolError(EXIT_FILES, what, self.key or self.certificate or b"", b": the key has a password")

    def server_name(self, host: bytes, remote_ip: bytes) -> str:
        """Return the name to verify: as given, that of the host, or the address if the host is one.

        Raises ToolError if it cannot be a name.
        """
        name = self.name
        if name is None:
            name = text_of(remote_ip) if _is_address(host) else host.removesuffix(b".")
        try:
            known = name.decode("ascii").encode("idna").decode("ascii")
        except UnicodeError:
            known = ""
        if not known:
            raise ToolError(EXIT_USAGE, self.settings.fatal, b"not the name of a server: ", name)
        return known


def _load_folder(context: ssl.SSLContext, path: bytes) -> None:
    """Use a folder as openssl rehash(1) makes it; ssl accepts any path. Raises OSError."""
    with os.scandir(path):
        context.load_verify_locations(capath=path)


def _is_address(host: bytes) -> bool:
    """Return whether a host is written as an address, in whichever form tcpclient takes."""
    if host in {b"", b"0"} or packed_ipv6(host) is not None:
        return True
    return bool(domain.literal(host))
