"""What a look at the files of certificates has found, for the master: everything but the keys."""

from ucspid.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCertificate:
    """A certificate; not_after is in seconds since 1970, the fingerprint that of SHA-256."""

    path: str
    names: tuple[str, ...]
    not_after: float
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatesReport:
    """The whole: changed says whether there is other material than before, and none of it is wrong.

    not_after is for each of the contexts, in their order, when the first of its certificates ends; None
    where it has none. watches are those of an inotify, each with the names in its directory that matter,
    which may be patterns. unwatched says why some changes are not noticed by it.
    """

    changed: bool
    problems: tuple[str, ...]
    certificates: tuple[SeenCertificate, ...]
    not_after: tuple[float | None, ...]
    watches: tuple[tuple[int, tuple[str, ...]], ...]
    unwatched: str | None
