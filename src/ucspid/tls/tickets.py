"""Session tickets sealed with our keys: what Python's ssl has no call for, asked of OpenSSL itself.

Where its library is older than OpenSSL 3, or out of reach, each process seals with keys of its own, and a
client that comes to another makes a full handshake.
"""

import ctypes
import os
import ssl
from collections.abc import Callable

from ucspid.tls import openssl
from ucspid.tls.ticket_keys import TicketKey, TicketKeys

_FAILED, _UNKNOWN, _GOOD, _RENEW = -1, 0, 1, 2
"""What the callback returns, see SSL_CTX_set_tlsext_ticket_key_cb(3): RENEW for a ticket to be replaced."""

MAX_KEYS = 1000
"""Keys that are remembered as OpenSSL takes them."""

_IV_SIZE = 16
_TEXT, _OCTETS = 4, 5
_SET_CACHE_MODE, _CACHE_OFF = 44, 0


class Tickets:
    """Seals and opens the tickets of all contexts of a process."""

    def __init__(self, keys: TicketKeys) -> None:
        """Use these keys."""
        self.keys = keys
        self.context = 0
        """The context of the handshake that goes on now, by its number: OpenSSL does not say which it is."""
        self._library = openssl.LIBRARY
        self._callback = openssl.TICKET_CALLBACK(self._asked)
        # Fetched once: what is not fetched, OpenSSL looks for in each call.
        fetch = None if self._library is None else self._library.EVP_CIPHER_fetch
        self._cipher = None if fetch is None else fetch(None, b"AES-256-CBC", None)
        self._parameters: dict[bytes, ctypes.Array[openssl.Parameter]] = {}

    @property
    def shared(self) -> bool:
        """Whether our keys are used."""
        return self._library is not None

    def serve(self, context: ssl.SSLContext) -> None:
        """Have a context's tickets sealed with our keys, and its sessions kept in tickets only."""
        if self._library is None:
            return
        pointer = openssl.pointer(context)
        self._library.SSL_CTX_set_tlsext_ticket_key_evp_cb(pointer, self._callback)
        self._library.SSL_CTX_ctrl(pointer, _SET_CACHE_MODE, _CACHE_OFF, None)

    def _asked(self, _ssl: int, name: int, iv: int, cipher: int, mac: int, sealing: int) -> int:
        """Prepare OpenSSL to seal or open a ticket."""
        try:
            if sealing:
                key = self.keys.sealing(self.context)
                ctypes.memmove(name, key.name, len(key.name))
                ctypes.memmove(iv, os.urandom(_IV_SIZE), _IV_SIZE)
                return self._prepare(self._lib.EVP_EncryptInit_ex, cipher, mac, iv, key, _GOOD)
            given = ctypes.string_at(name, 16)
            found = self.keys.opening(self.context, given)
            if found is None:
                return _UNKNOWN
            # Each ticket is for one connection, which gets another one (RFC 8446, C.4). Without that, the
            # client's first data would also wait until its end of the handshake is acknowledged.
            return self._prepare(self._lib.EVP_DecryptInit_ex, cipher, mac, iv, found, _RENEW)
        except Exception:  # noqa: BLE001 - it would be printed, and taken for 0; the handshake fails
            return _FAILED

    @property
    def _lib(self) -> ctypes.CDLL:
        assert self._library is not None
        return self._library

    def _prepare(
        self, begin: Callable[..., int], cipher: int, mac: int, iv: int, key: TicketKey, good: int
    ) -> int:
        parameters = self._parameters.get(key.mac)
        if parameters is None:
            if len(self._parameters) > MAX_KEYS:
                self._parameters.clear()
            parameters = self._parameters[key.mac] = (openssl.Parameter * 3)(
                openssl.Parameter(b"key", _OCTETS, key.mac, len(key.mac), 0),
                openssl.Parameter(b"digest", _TEXT, b"SHA256", 0, 0),
                openssl.Parameter(None, 0, None, 0, 0),
            )
        taken = begin(cipher, self._cipher, None, key.cipher, iv)
        return good if taken and self._lib.EVP_MAC_CTX_set_params(mac, parameters) else _FAILED
