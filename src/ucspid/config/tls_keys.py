"""The keys of `tls`, at the top level and of services: see schema.py."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec import Meta, Struct
from msgspec import field as key

from ucspid.config.forms import Account, Form, Misfit, Path
from ucspid.config.positions import Scalar
from ucspid.config.ruleforms import Count, LookupTime

MAX_ENTRIES = 100
"""Of certificates that are named in one list; each may be a pattern."""
MAX_PROTOCOLS = 16
MAX_PROTOCOL = 255
MAX_CIPHERS = 2000
MAX_PROCESSES = 64

_PROTOCOL = re.compile(rf"[!-~]{{1,{MAX_PROTOCOL}}}")
_CIPHERS = re.compile(rf"[!-~]{{1,{MAX_CIPHERS}}}")

Mode = Literal["implicit", "starttls"]


class TlsMode(Form):
    """The mode alone, where a mapping may stand too."""

    __slots__ = ("mode",)
    expects = "implicit, starttls, or a mapping"
    json_schema: ClassVar[dict[str, Any]] = {"enum": ["implicit", "starttls"]}

    def __init__(self, mode: Mode) -> None:
        """Keep the mode."""
        self.mode: Mode = mode

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the mode."""
        match value:
            case "implicit" | "starttls":
                return cls(value)
        raise Misfit


class TlsVersion(Form, str):
    """A version of TLS."""

    __slots__ = ()
    expects = "1.2 or 1.3"
    json_schema: ClassVar[dict[str, Any]] = {"enum": ["1.2", "1.3", 1.2, 1.3]}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the version."""
        if value not in ("1.2", "1.3"):
            raise Misfit
        return cls(value)


class CertificatePath(Path):
    """The path of a certificate, where a mapping may stand too."""

    expects = "the path of a directory or a PEM file, a pattern, or a mapping"


class Ciphers(Form, str):
    """A list of ciphers as OpenSSL writes it, ciphers(1)."""

    __slots__ = ()
    expects = "a list of ciphers such as ECDHE+AESGCM:ECDHE+CHACHA20, ciphers(1)"
    json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": f"^{_CIPHERS.pattern}$"}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the list; which ciphers there are is known to the library alone."""
        if not isinstance(value, str) or not _CIPHERS.fullmatch(value):
            raise Misfit
        return cls(value)


class ProtocolName(Form, str):
    """The name of a protocol, RFC 7301."""

    __slots__ = ()
    expects = "the name of a protocol such as imap or http/1.1 (RFC 7301)"
    json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": f"^{_PROTOCOL.pattern}$"}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the name."""
        if not isinstance(value, str) or not _PROTOCOL.fullmatch(value):
            raise Misfit
        return cls(value)


class CertificateSection(Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate whose key is in a file of its own."""

    certificate: Annotated[
        Path,
        Meta(description="A PEM file: the certificate, then those that lead to its authority."),
    ]
    key: Annotated[Path, Meta(description="A PEM file with its private key, not encrypted.")]


class TlsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file's tls and that of a service have in common."""

    certificates: Annotated[
        list[CertificateSection | CertificatePath],
        Meta(
            min_length=1,
            max_length=MAX_ENTRIES,
            extra={"single": True},
            description="The certificates; a client gets the one for the name that it asks for. A directory "
            "has fullchain.pem and privkey.pem, as of certbot; a file has the chain and the key; a pattern "
            "such as /etc/letsencrypt/live/* is all that it matches.",
        ),
    ] = key(default_factory=list)
    min_version: Annotated[TlsVersion, Meta(description="The lowest version of TLS that is accepted.")] = key(
        default_factory=lambda: TlsVersion("1.2")
    )
    ciphers: Annotated[
        Ciphers | None,
        Meta(
            description="The ciphers of TLS 1.2, ciphers(1). Without it "
            "ECDHE+AES128+AESGCM:ECDHE+AESGCM:ECDHE+CHACHA20. TLS 1.3 "
            "has its own."
        ),
    ] = None
    alpn: Annotated[
        list[ProtocolName],
        Meta(
            max_length=MAX_PROTOCOLS,
            extra={"single": True},
            description="Protocols to agree on with clients that name some, the preferred one first.",
        ),
    ] = key(default_factory=list)
    client_certificates: Annotated[
        Literal["none", "request", "require"],
        Meta(description="Whether clients are asked for a certificate, and refused without one."),
    ] = "none"
    client_ca: Annotated[
        Path | None,
        Meta(description="A PEM file with the authorities whose certificates clients may have."),
    ] = None
    handshake_timeout: Annotated[LookupTime, Meta(description="How long a handshake may take.")] = key(
        default_factory=lambda: LookupTime(10)
    )
    max_handshakes: Annotated[
        Count, Meta(description="Handshakes of a service that may be under way at a time.")
    ] = 256
    sni: Annotated[
        Literal["strict", "default"],
        Meta(
            description="A client that asks for a name that no certificate has is refused, or gets the first "
            "one."
        ),
    ] = "default"
    env: Annotated[
        Literal["s6", "ucspi-ssl"],
        Meta(description="The variables about TLS: those of s6, or those of ucspi-ssl as well."),
    ] = "s6"


class TlsSection(TlsSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS of one service. What it does not say is as the file's tls says. Examples are in docs/tls.md."""

    mode: Annotated[
        Mode,
        Meta(description="TLS at once; or when the program asks for it, as for STARTTLS (UCSPI-TLS)."),
    ]


class TlsDefaults(TlsSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processes that do TLS, and what holds for all services with tls that do not say it themselves."""

    user: Annotated[
        Account | None,
        Meta(
            description="The user of the processes that do TLS and hold the keys, when started as root. "
            "Without it ucspid-tls, or the file's user if there is none. Never root."
        ),
    ] = None
    group: Annotated[Account | None, Meta(description="Their group. Without it the user's own.")] = None
    processes: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_PROCESSES)] | None,
        Meta(description="How many processes do TLS. Without it as many as there are CPUs, at most 4."),
    ] = None
