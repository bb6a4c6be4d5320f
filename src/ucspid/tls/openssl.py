"""What Python's ssl has no call for, asked of OpenSSL itself: by ctypes, of the library that ssl uses.

LIBRARY is None where that is older than OpenSSL 3, or out of reach.
"""

import _ssl
import ctypes
import ssl

TICKET_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
)
"""See SSL_CTX_set_tlsext_ticket_key_evp_cb(3)."""


class Parameter(ctypes.Structure):
    """OSSL_PARAM(3)."""

    _fields_ = (
        ("key", ctypes.c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", ctypes.c_char_p),
        ("data_size", ctypes.c_size_t),
        ("return_size", ctypes.c_size_t),
    )


_TLS_1_3 = "TLSv1.3"


def _library() -> ctypes.CDLL | None:
    """Return what has the functions of Python's own OpenSSL, if that has all that is needed."""
    try:
        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_CTX_set_tlsext_ticket_key_evp_cb.argtypes = (ctypes.c_void_p, TICKET_CALLBACK)
        library.SSL_CTX_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
        library.SSL_CTX_set_ciphersuites.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
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
        library.EVP_MAC_CTX_set_params.argtypes = (ctypes.c_void_p, ctypes.POINTER(Parameter))
    except (AttributeError, OSError):
        return None
    return library


LIBRARY = _library()


def pointer(context: ssl.SSLContext) -> int:
    """Return OpenSSL's own context: the first thing that Python's object has beyond what every object has."""
    found = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    assert found is not None
    return found


def prefer(context: ssl.SSLContext, first: str) -> None:
    """Put a cipher suite of TLS 1.3 before the others that the context has of it; nothing if it has not."""
    suites = [item["name"] for item in context.get_ciphers() if item["protocol"] == _TLS_1_3]
    if LIBRARY is None or first not in suites:
        return
    suites.sort(key=lambda name: name != first)
    LIBRARY.SSL_CTX_set_ciphersuites(pointer(context), ":".join(suites).encode())
