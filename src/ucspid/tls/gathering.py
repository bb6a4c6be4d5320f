"""From the contexts of a plan to the material of the processes that do TLS, or all that is wrong with it."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal

from ucspid.plan import CertificateFiles, TlsContext
from ucspid.records import dataclass, field
from ucspid.tls.acceptance import refused_chain, refused_settings
from ucspid.tls.certificate_paths import (
    Located,
    NotWatching,
    PairFiles,
    Watching,
    is_pattern,
    locate,
    pairs,
    read_file,
)
from ucspid.tls.certificates import (
    CertificateError,
    ReadCertificate,
    certificates_of,
    read_certificate,
)
from ucspid.tls.material import MAX_SIZE, ContextMaterial, TlsMaterial

MAX_CERTIFICATES = 1000
"""Certificates of all contexts together."""
MAX_AUTHORITIES = 1000
"""Certificates in a file of authorities."""

FaultyKey = Literal["certificates", "client_ca", "ciphers", "sni"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A mistake in the settings or the files of a context; index is that of an item of certificates."""

    context: TlsContext
    key: FaultyKey
    index: int | None
    text: str


@dataclass(slots=True)
class Gathered:
    """What was found: material is worth nothing if there are faults."""

    material: TlsMaterial
    faults: list[Fault]
    certificates: list[ReadCertificate]


def gather(
    contexts: Iterable[TlsContext], watching: Watching | None = None, now: datetime | None = None
) -> Gathered:
    """Read and check everything that the contexts name, with the rights that this process has."""
    gathering = _Gathering(watching or NotWatching(), now or datetime.now(UTC))
    found = [gathering.context(context) for context in contexts]
    chains = tuple(certificate.chain for certificate in gathering.certificates)
    return Gathered(
        TlsMaterial(chains=chains, contexts=tuple(found)), gathering.faults, gathering.certificates
    )


@dataclass(slots=True)
class _Gathering:
    watching: Watching
    now: datetime
    faults: list[Fault] = field(default_factory=list)
    certificates: list[ReadCertificate] = field(default_factory=list)
    size: int = 0
    _known: dict[tuple[str, str], int | CertificateError] = field(default_factory=dict)
    _chains: dict[str, int] = field(default_factory=dict)
    _data: dict[str, bytes] = field(default_factory=dict)

    def context(self, context: TlsContext) -> ContextMaterial:
        before = len(self.faults)
        if reason := refused_settings(context):
            self._fault(context, "ciphers", reason)
        chains: dict[int, None] = {}
        for index, files in enumerate(context.certificates):
            for number in self._item(context, index, files):
                chains[number] = None
        if len(self.faults) == before:
            self._check(context, list(chains))
        return ContextMaterial(context=context, chains=tuple(chains), client_ca=self._authorities(context))

    def _fault(self, context: TlsContext, key: FaultyKey, text: str, index: int | None = None) -> None:
        self.faults.append(Fault(context=context, key=key, index=index, text=text))

    def _item(self, context: TlsContext, index: int, files: CertificateFiles) -> Iterator[int]:
        """Yield the numbers of the certificates that one item of the list stands for."""
        try:
            found = pairs(files, self.watching)
        except OSError as problem:
            self._fault(context, "certificates", _said(problem), index)
            return
        if not found and is_pattern(files.path):
            self._fault(context, "certificates", f"{files.path}: matches no certificate", index)
        for pair in found:
            number = self._pair(pair)
            if isinstance(number, int):
                yield number
            else:
                self._fault(context, "certificates", str(number), index)

    def _pair(self, pair: PairFiles) -> int | CertificateError:
        known = (pair.chain.real, pair.key.real)
        if known not in self._known:
            try:
                self._known[known] = self._number(pair)
            except CertificateError as problem:
                self._known[known] = problem
            except OSError as problem:
                self._known[known] = CertificateError(_said(problem))
        return self._known[known]

    def _number(self, pair: PairFiles) -> int:
        found = read_certificate(
            (pair.chain, self._read(pair.chain)), (pair.key, self._read(pair.key)), self.now
        )
        if found.chain.pem in self._chains:
            return self._chains[found.chain.pem]
        if len(self.certificates) == MAX_CERTIFICATES:
            raise CertificateError(f"{found.path}: more than {MAX_CERTIFICATES} certificates")
        self._take(
            len(found.chain.pem) + sum(len(value) for _name, value in found.chain.described), found.path
        )
        number = self._chains[found.chain.pem] = len(self.certificates)
        self.certificates.append(found)
        return number

    def _take(self, size: int, path: str) -> None:
        """Count what the material has. JSON makes more of it: line ends, quotes, and what is around."""
        self.size += size
        if self.size > MAX_SIZE // 2:
            raise CertificateError(f"{path}: all certificates together have more than {MAX_SIZE // 2} bytes")

    def _read(self, file: Located) -> bytes:
        if file.real not in self._data:
            self._data[file.real] = read_file(file)
        return self._data[file.real]

    def _authorities(self, context: TlsContext) -> str | None:
        if context.client_ca is None:
            return None
        try:
            return self._read_authorities(context.client_ca)
        except OSError as problem:
            self._fault(context, "client_ca", _said(problem))
        except CertificateError as problem:
            self._fault(context, "client_ca", str(problem))
        return None

    def _read_authorities(self, path: str) -> str:
        found = certificates_of(self._read(locate(path, self.watching)), path)
        if len(found) > MAX_AUTHORITIES:
            raise CertificateError(f"{path}: {len(found)} certificates in it, at most {MAX_AUTHORITIES}")
        text = "".join(text for _certificate, text in found)
        self._take(len(text), path)
        return text

    def _check(self, context: TlsContext, chains: list[int]) -> None:
        """See whether the library takes the certificates with the settings."""
        if context.sni == "strict" and not any(self.certificates[number].chain.names for number in chains):
            reason = "no certificate has a name (subjectAltName), so strict would refuse all clients"
            self._fault(context, "sni", reason)
        for number in chains:
            certificate = self.certificates[number]
            if refused := refused_chain(context, certificate.chain.pem):
                self._fault(context, "certificates", f"{certificate.path}: {refused}")


def _said(problem: OSError) -> str:
    return f"{problem.filename}: {problem.strerror}"
