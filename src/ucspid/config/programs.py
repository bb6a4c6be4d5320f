"""The programs of all services: which file each is, found with its service's rights."""

from collections.abc import Callable

from ucspid.config import probe
from ucspid.config.problems import Problems
from ucspid.profile import Profile
from ucspid.records import dataclass, field

OWN_DESCRIPTORS = 32
"""What a launcher has open beyond one descriptor for the standard error of each of its services."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to look for, which key names. place gives the path of a key that the service is set by."""

    service: str
    key: str
    profile: Profile
    search: probe.Search
    user: str
    place: Callable[[str], str]


@dataclass(slots=True)
class ProgramSearch:
    """Programs to look for: those of one profile at once, the same one only once."""

    problems: Problems
    _wanted: dict[Profile, list[Wanted]] = field(default_factory=dict)

    def want(self, wanted: Wanted) -> None:
        """Add a program, or a script."""
        self._wanted.setdefault(wanted.profile, []).append(wanted)

    def find(self) -> dict[tuple[str, str], str]:
        """Return what was found, by service and key. Raises OSError if fork fails."""
        found: dict[tuple[str, str], str] = {}
        for profile, all_wanted in self._wanted.items():
            self._check_descriptors(profile, all_wanted)
            searches = list(dict.fromkeys(wanted.search for wanted in all_wanted))
            results, refusals = probe.find(profile, searches)
            by_search = dict(zip(searches, results, strict=True))
            for wanted in all_wanted:
                for refusal in refusals:
                    self._refused(wanted, refusal)
                path, why = by_search[wanted.search]
                if path is not None:
                    found[wanted.service, wanted.key] = path
                elif why:
                    self.problems.add(wanted.place(wanted.key), f"{why} (looked for as {wanted.user})")
        return found

    def _check_descriptors(self, profile: Profile, all_wanted: list[Wanted]) -> None:
        """Add a problem where the limit of descriptors, meant for programs, is too low for their launcher."""
        services = len({wanted.service for wanted in all_wanted})
        least = services + OWN_DESCRIPTORS
        limit = dict(profile.rlimits).get("nofile")
        if limit is not None and limit < least:
            path = all_wanted[0].place("rlimits") + ".nofile"
            self.problems.add(
                path,
                f"must be at least {least}: {services} services share a launcher. "
                f"For less, begin program with softlimit, -o, {limit}",
            )

    def _refused(self, wanted: Wanted, refusal: probe.ProbeRefusal) -> None:
        key, dot, limit = refusal.key.partition(".")
        self.problems.add(wanted.place(key) + dot + limit, f"cannot be set as {wanted.user}: {refusal.why}")


def candidates(name: str, search_path: str) -> tuple[str, ...]:
    """Return the files that a program's name may mean: itself with a slash, else one in each of PATH."""
    if "/" in name:
        return (name,)
    return tuple(f"{directory or '.'}/{name}" for directory in search_path.split(":"))
