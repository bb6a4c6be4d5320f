"""The privilege profile of a service: numbers for its users and groups, absolute paths."""

from pathlib import Path

from ucspid.config import schema
from ucspid.config.forms import Account
from ucspid.config.identities import UNCHANGED, Identities, UserIds
from ucspid.config.problems import Problems
from ucspid.config.rlimits import Rlimits
from ucspid.config.settings import Place
from ucspid.config.shapes import record
from ucspid.profile import Profile
from ucspid.records import dataclass


@dataclass(frozen=True, slots=True)
class Profiles:
    """Makes profiles. base is the directory that the file's relative paths start from."""

    file: schema.File
    base: Path
    identities: Identities
    problems: Problems

    def of(self, service: schema.ServiceSection, place: Place) -> Profile:
        """Return the profile, with None for what could not be resolved."""
        numbers = self._numbers(service, place)
        limits = [
            (field.key, limit.value)
            for field in record(Rlimits).fields.values()
            if (limit := getattr(service.rlimits, field.name)) is not None
        ]
        return Profile(
            uid=numbers.uid,
            gid=numbers.gid,
            groups=numbers.groups,
            umask=int(service.umask),
            cwd=self._cwd(service, place),
            root=self._root(service, place),
            nice=service.nice,
            rlimits=tuple(sorted(limits)),
            no_new_privs=service.no_new_privs,
        )

    def user(self, service: schema.ServiceSection) -> Account:
        """Return whom the service's program runs as."""
        return service.user or self.file.user

    def login(self, service: schema.ServiceSection, place: Place) -> dict[str, str]:
        """Return the variables of a login of the service's user."""
        return self.identities.login(self.user(service), place)

    def _numbers(self, service: schema.ServiceSection, place: Place) -> UserIds:
        if service.user is not None:
            return self.identities.numbers(service.user, service.group, service.groups, place) or UNCHANGED
        group = service.group or self.file.group

        def where(key: str) -> str:
            of_file = key == "user" or (key == "group" and service.group is None)
            return key if of_file else place(key)

        user = self.identities.switched_to(self.file.user)
        return self.identities.numbers(user, group, service.groups, where) or UNCHANGED

    def _cwd(self, service: schema.ServiceSection, place: Place) -> str:
        if service.chroot is None:
            return str(self.base / service.chdir)
        if not service.chdir.startswith("/"):
            self.problems.add(place("chdir"), "must be an absolute path, inside the chroot")
        return str(service.chdir)

    def _root(self, service: schema.ServiceSection, place: Place) -> str | None:
        if service.chroot is None:
            return None
        if not self.identities.is_root:
            self.problems.add(place("chroot"), "needs a daemon started as root")
            return None
        return str(self.base / service.chroot)
