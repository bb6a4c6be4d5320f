"""Services that forward to each other in a circle: one client would take all their slots."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from ucspid.config import forwards, schema
from ucspid.config.endpoints import endpoint_of
from ucspid.config.problems import Problems
from ucspid.config.settings import Place
from ucspid.forward.targets import Destination
from ucspid.net.endpoint import Endpoint


class _Hop(NamedTuple):
    key: str
    target: Destination
    in_chroot: bool


class ForwardCircles:
    """The services of a file that forward, and to which of them each does."""

    def __init__(self, problems: Problems) -> None:
        """Start with none."""
        self._problems = problems
        self._targets: dict[str, list[_Hop]] = {}
        self._listening: defaultdict[int | str, list[tuple[Endpoint, str]]] = defaultdict(list)
        """By port, or by the name of a Unix socket."""

    def take(self, name: str, entry: schema.ServiceSection, place: Place) -> None:
        """Add a service, if it forwards."""
        if entry.forward is None:
            return
        path = place("forward")
        if isinstance(entry.forward, forwards.ForwardSection):
            path = f"{path}.to"
        self._targets[name] = [
            _Hop(key, given.target, entry.chroot is not None)
            for key, given in self._problems.items(path, forwards.section_of(entry.forward).to)
        ]
        for given in entry.listen:
            if (listen := endpoint_of(given)) is not None:
                self._listening[listen.port or listen.name].append((listen, name))

    def check(self) -> None:
        """Add a problem for each target by which a connection would come back to its service."""
        sources: defaultdict[str, set[str]] = defaultdict(set)
        for name, targets in self._targets.items():
            for each in targets:
                for service in self._services_at(each):
                    sources[service].add(name)
        for name, targets in self._targets.items():
            before = _leading_to(name, sources)
            for each in targets:
                there = self._services_at(each)
                back = [service for service in there if service in before]
                if name in there:
                    text = "this service itself: it would forward to itself without end"
                elif back:
                    text = f"{back[0]}, which forwards back to {name}: connections would go round without end"
                else:
                    continue
                self._problems.add(each.key, f"{each.target} is {text}")

    def _services_at(self, each: _Hop) -> list[str]:
        """Return the forwarding services that a target is. A path in a chroot is another directory's."""
        if each.in_chroot and each.target.host.startswith("/"):
            return []
        listening = self._listening.get(each.target.port or each.target.host, ())
        return [name for listen, name in listening if forwards.is_there(each.target, listen)]


def _leading_to(name: str, sources: Mapping[str, set[str]]) -> set[str]:
    """Return the services from which a connection comes to this one, however many are between."""
    found: set[str] = set()
    new = sources.get(name, set())
    while new:
        found |= new
        new = {source for known in new for source in sources.get(known, ())} - found
    return found
