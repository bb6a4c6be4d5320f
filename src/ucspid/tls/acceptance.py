"""Whether the TLS library takes settings and certificates: tried before they are in force."""

import os
import re
import ssl

from ucspid.plan import TlsContext

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_SEPARATORS = re.compile(r"[:, ]+")


def refused_settings(context: TlsContext) -> str | None:
    """Return what is wrong with the ciphers."""
    if context.ciphers is None:
        return None
    for word in filter(None, _SEPARATORS.split(context.ciphers)):
        if not word.startswith(("!", "-", "+", "@")) and not _known(word):
            hint = ": those of TLS 1.3 cannot be chosen" if word.startswith("TLS_") else ""
            return f"there is no cipher {word}{hint}"
    library = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        library.set_ciphers(context.ciphers)
    except ssl.SSLError:
        return "no cipher is left"
    for cipher in library.get_ciphers():
        if not cipher["strength_bits"]:
            return f"{cipher['name']} does not encrypt: append :!eNULL"
        if cipher["auth"] == "auth-null":
            return f"{cipher['name']} goes without a certificate: append :!aNULL"
    return None


def refused_chain(context: TlsContext, pem: str) -> str | None:
    """Return why the library does not take a certificate and its key. Raises OSError without memory."""
    library = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    library.minimum_version = VERSIONS[context.min_version]
    if context.ciphers is not None:
        library.set_ciphers(context.ciphers)
    memory = os.memfd_create("ucspid-certificate", os.MFD_CLOEXEC)
    with os.fdopen(memory, "wb") as file:
        file.write(pem.encode())
        file.flush()
        try:
            library.load_cert_chain(f"/proc/self/fd/{memory}", password=lambda: b"")
        except ssl.SSLError as problem:
            return f"refused by {ssl.OPENSSL_VERSION}: {problem.reason or problem}"
    return None


def _known(word: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(word)
    except ssl.SSLError:
        return False
    return True
