"""A service's settings with the file's defaults filled in, and where in the file each is set."""

import msgspec

from ucspid.config import schema
from ucspid.config.problems import Problems, under
from ucspid.config.shapes import record
from ucspid.records import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service's key is set: by itself, in defaults, or (then it is the service's place) nowhere."""

    service: str
    problems: Problems

    def __call__(self, key: str) -> str:
        """Return the path of the key."""
        own = under(under("services", self.service), key)
        shared = under("defaults", key)
        return shared if self.problems.given(shared) and not self.problems.given(own) else own

    def right(self, keys: tuple[str, ...]) -> bool:
        """Say whether no mistake was found in any of the keys."""
        return not any(self.problems.wrong(self(key)) for key in keys)


class Settings:
    """The services of one file, each with the defaults in force."""

    def __init__(self, file: schema.File, problems: Problems) -> None:
        """See which defaults the file gives."""
        self._file = file
        self._problems = problems
        fields = record(schema.SettingsSection).fields.values()
        self._defaults = [field for field in fields if problems.given(under("defaults", field.key))]

    def of(self, name: str, service: schema.ServiceSection) -> schema.ServiceSection:
        """Return the service with the keys of defaults that it does not give itself."""
        own = under("services", name)
        taken = {
            field.name: getattr(self._file.defaults, field.name)
            for field in self._defaults
            if not self._problems.given(under(own, field.key))
        }
        return msgspec.structs.replace(service, **taken) if taken else service
