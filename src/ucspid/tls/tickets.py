"""Session tickets sealed with our keys: what Python's ssl has no call for, asked of OpenSSL itself.

By ctypes, of the library that Python's ssl module uses. Where that is older than OpenSSL 3, or out of reach,
each process seals with keys of its own, and a client that comes to another makes a full handshake.
"""

import _ssl
import ctypes
import os
import ssl
from collections.abc import Callable

from ucspid.tls.ticket_keys import TicketKey, TicketKeys

_FAILED, _UNKNOWN, _GOOD, _RENEW = -1, 0, 1, 2
"""What the callback returns, see SSL_CTX_set_tlsext_ticket_key_cb(3): RENEW for a ticket to be replaced."""

MAX_KEYS = 1000
"""Keys that are remembered as OpenSSL takes them."""

_IV_SIZE = 16
_TEXT, _OCTETS = 4, 5
_SET_CACHE_MODE, _CACHE_OFF = 44, 0


class _Parameter(ctypes.Structure):
    """OSSL_PARAM(3)."""

    _fields_ = (
        ("key", ctypes.c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", ctypes.c_char_p),
        ("data_size", ctypes.c_size_t),
        ("return_size", ctypes.c_size_t),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
)


class Tickets:
    """Seals and opens the tickets of all contexts of a process."""

    def __init__(self, keys: TicketKeys) -> None:
        """Use these keys."""
        self.keys = keys
        self.context = 0
        """The context of the handshake that goes on now, by its number: OpenSSL does not say which it is."""
        self._library = _library()
        self._callback = _CALLBACK(self._asked)
        # Fetched once: what is not fetched, OpenSSL looks for in each call.
        fetch = None if self._library is None else self._library.EVP_CIPHER_fetch
        self._cipher = None if fetch is None else fetch(None, b"AES-256-CBC", None)
        self._parameters: dict[bytes, ctypes.Array[_Parameter]] = {}

    @property
    def shared(self) -> bool:
        """Whether our keys are used."""
        return self._library is not None

    def serve(self, context: ssl.SSLContext) -> None:
        """Have a context's tickets sealed with our keys, and its sessions kept in tickets only."""
        if self._library is None:
            return
        pointer = _pointer(context)
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
            parameters = self._parameters[key.mac] = (_Parameter * 3)(
                _Parameter(b"key", _OCTETS, key.mac, len(key.mac), 0),
                _Parameter(b"digest", _TEXT, b"SHA256", 0, 0),
                _Parameter(None, 0, None, 0, 0),
            )
        taken = begin(cipher, self._cipher, None, key.cipher, iv)
        return good if taken and self._lib.EVP_MAC_CTX_set_params(mac, parameters) else _FAILED


def _library() -> ctypes.CDLL | None:
    """Return what has the functions of Python's own OpenSSL, if that has all that is needed."""
    try:
        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_CTX_set_tlsext_ticket_key_evp_cb.argtypes = (ctypes.c_void_p, _CALLBACK)
        library.SSL_CTX_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
        library.EVP_CIPHER_fetch.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
        library.EVP_CIPHER_fetch.restype = ctypes.c_void_p
        for begin in (library.EVP_EncryptInit_ex, library.EVP_DecryptInit_ex):
            begin.argtypes = (
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_char_p,
                ctypes.c_void_p,
            )
        library.EVP_MAC_CTX_set_params.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Parameter))
    except (AttributeError, OSError):
        return None
    return library


def _pointer(context: ssl.SSLContext) -> int:
    """Return OpenSSL's own context: the first thing that Python's object has beyond what every object has."""
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    assert pointer is not None
    return pointer
