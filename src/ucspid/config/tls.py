"""TLS of the services: what the file says, completed and checked, and the certificates that it names."""

import os
from collections.abc import Callable
from pathlib import Path

from ucspid.config import schema
from ucspid.config.forms import Account
from ucspid.config.identities import Identities, UserIds
from ucspid.config.problems import Problems, under
from ucspid.config.shapes import record
from ucspid.config.tls_keys import CertificateSection, TlsMode, TlsSection, TlsSettings
from ucspid.plan import CertificateFiles, Tls, TlsContext, TlsProcesses
from ucspid.records import dataclass, field
from ucspid.tls.material import NO_MATERIAL, TlsMaterial

USER = "ucspid-tls"
"""Whom the processes that do TLS run as, where the file does not say it and the system has it."""
MAX_PROCESSES = 4
"""Processes that do TLS, where the file does not say how many."""

_SHARED = "tls"
_MODE = "mode"


@dataclass(frozen=True, slots=True)
class _TlsPlace:
    """Where a key of a service's tls is set: by the service, or at the top level."""

    own: str
    problems: Problems

    def __call__(self, key: str) -> str:
        """Return the path of the key; the service's own if it is nowhere."""
        own, shared = under(self.own, key), under(_SHARED, key)
        return shared if self.problems.given(shared) and not self.problems.given(own) else own


@dataclass(slots=True)
class TlsResolution:
    """TLS of one file. base is the directory that relative paths start from."""

    file: schema.File
    base: Path
    identities: Identities
    problems: Problems
    _contexts: dict[TlsContext, _TlsPlace] = field(default_factory=dict)
    _used: bool = False

    def of(self, name: str, entry: schema.ServiceSection) -> Tls | None:
        """Return what a service has; None if it has none."""
        own = under(under("services", name), _SHARED)
        if entry.tls is None:
            return None
        self._used = True
        place = _TlsPlace(own, self.problems)
        mode = entry.tls.mode
        given = self._completed(entry.tls, own)
        context = self._context(given, place)
        self._check(given, place)
        if mode == "implicit" and entry.banner:
            self._check_banner(name)
        keys = [item.key for item in record(TlsSettings).fields.values()]
        if not any(self.problems.wrong(place(key)) for key in [*keys, _MODE]):
            self._contexts.setdefault(context, place)
        return Tls(
            mode=mode,
            context=context,
            handshake_timeout=float(given.handshake_timeout),
            max_handshakes=given.max_handshakes,
            env=given.env,
        )

    def processes(self, loop: UserIds) -> TlsProcesses | None:
        """Return the processes that are needed; None if no service has TLS. loop is the file's user."""
        if not self._used:
            return None
        ids = self._user(loop)
        count = self.file.tls.processes or min(MAX_PROCESSES, len(os.sched_getaffinity(0)))
        return TlsProcesses(count=count, uid=ids.uid, gid=ids.gid, groups=ids.groups)

    def material(self) -> TlsMaterial:
        """Read all certificates; what is wrong with them is added to the problems.

        Raises OSError without memory.
        """
        if not self._contexts:
            return NO_MATERIAL
        from ucspid.tls.gathering import gather  # takes 50 ms that files without TLS need not spend

        found = gather(self._contexts)
        for fault in found.faults:
            place = self._contexts[fault.context]
            path = place(fault.key)
            if fault.index is not None:
                items = [item for item, _value in self.problems.items(path, fault.context.certificates)]
                path = items[fault.index]
            self.problems.add(path, fault.text)
        return found.material

    def _completed(self, given: TlsSection | TlsMode, own: str) -> TlsSettings:
        """Return the settings with those of the top level that the service does not give itself."""
        shared = self.file.tls
        if isinstance(given, TlsMode):
            return shared
        values = {
            item.name: getattr(given if self.problems.given(under(own, item.key)) else shared, item.name)
            for item in record(TlsSettings).fields.values()
        }
        return TlsSettings(**values)

    def _context(self, given: TlsSettings, place: Callable[[str], str]) -> TlsContext:
        right = not self.problems.wrong(place("certificates"))
        if right and not given.certificates:
            self.problems.add(
                place("certificates"), "required, here or in tls at the top level, but not given"
            )
        return TlsContext(
            certificates=tuple(map(self._files, given.certificates)) if right else (),
            min_version="1.3" if given.min_version == "1.3" else "1.2",
            ciphers=None if given.ciphers is None else str(given.ciphers),
            alpn=tuple(map(str, given.alpn)),
            client_certificates=given.client_certificates,
            client_ca=None if given.client_ca is None else self._absolute(given.client_ca),
            sni=given.sni,
        )

    def _files(self, given: CertificateSection | str) -> CertificateFiles:
        if isinstance(given, CertificateSection):
            return CertificateFiles(path=self._absolute(given.certificate), key=self._absolute(given.key))
        return CertificateFiles(path=self._absolute(given))

    def _absolute(self, path: str) -> str:
        return str(self.base / path)

    def _check(self, given: TlsSettings, place: Callable[[str], str]) -> None:
        asked = given.client_certificates != "none"
        if any(self.problems.wrong(place(key)) for key in ("client_certificates", "client_ca")):
            return
        if asked and given.client_ca is None:
            self.problems.add(place("client_certificates"), f"{given.client_certificates} needs client_ca")
        if given.client_ca is not None and not asked:
            self.problems.add(place("client_ca"), "needs client_certificates: request or require")

    def _check_banner(self, name: str) -> None:
        own, shared = under(under("services", name), "banner"), under("defaults", "banner")
        path = own if self.problems.given(own) or not self.problems.given(shared) else shared
        self.problems.add(path, f"would be sent to clients of {name} before TLS begins: its tls is implicit")

    def _user(self, loop: UserIds) -> UserIds:
        """Return whom the processes run as, which is never root."""
        given = self.file.tls
        user = given.user
        if user is None:
            user = self._usual_user()
            if user is None and given.group is None:
                return loop

        def place(key: str) -> str:
            return under(_SHARED, key)

        found = self.identities.numbers(user or self.file.user, given.group, None, place)
        if found is None:
            return loop
        if found.uid == 0:
            self.problems.add(place("user"), "what holds the keys and meets the network must not run as root")
        return found

    def _usual_user(self) -> Account | None:
        if not self.identities.is_root:
            return None
        try:
            self.identities.accounts.user(USER)
        except LookupError:
            return None
        return Account(USER)
