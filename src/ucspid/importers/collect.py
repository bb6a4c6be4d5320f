"""From paths to the text of a file: what each is, who reads it, and what is common to all services."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ucspid.config.endpoints import Listen
from ucspid.config.forms import Misfit, ServiceName
from ucspid.config.listeners import Listeners
from ucspid.errors import ConfigError
from ucspid.importers.description import AccessRule, Description, Imported
from ucspid.importers.host import Host
from ucspid.importers.hosts_access import apply_wrappers
from ucspid.importers.kinds import Wrappers, import_path
from ucspid.importers.sharing import share
from ucspid.importers.yaml_text import yaml_text

CONTROL = "/run/ucspid/control"
LOOP_USER = "ucspid"
_DEFAULT_CONNECTIONS = 1000
_MAX_NAME = 32


def import_paths(paths: Sequence[str], host: Host) -> tuple[str | None, Description]:
    """Return the text of a file with the services of all paths, and the description with its notes.

    The text is None if there is no service that could run. Raises OSError, ConfigError.
    """
    description = Description(sources=[host.label(path) for path in paths])
    wrappers = Wrappers()
    for path in _each_once(paths):
        import_path(path if host.is_this_one else os.path.join("/", path), host, description, wrappers)
    apply_wrappers(description, [*wrappers.allow, *wrappers.deny], host)
    _name(description.services)
    _check_texts(description.services)
    _check_listeners(description.running())
    running = description.running()
    if not running:
        return None, description
    top = _top(description, host)
    return yaml_text(description, top, share(running)), description


def _each_once(paths: Sequence[str]) -> list[str]:
    """Return the paths, without services whose socket units are there too: those bring them along."""
    found = dict.fromkeys(paths)
    sockets = {path.removesuffix(".socket") for path in found if path.endswith(".socket")}
    return [
        path
        for path in found
        if not (path.endswith(".service") and path.removesuffix(".service").removesuffix("@") in sockets)
    ]


def _top(description: Description, host: Host) -> dict[str, Any]:
    top: dict[str, Any] = {}
    if host.accounts.user(LOOP_USER) is not None:
        top["user"] = LOOP_USER
    else:
        description.remark(
            f"The event loop runs as nobody: create a user {LOOP_USER}, and add user: {LOOP_USER} below."
        )
    top["control"] = CONTROL
    together = sum(service.settings.get("max_connections", 40) for service in description.running())
    limited = [
        service
        for service in description.running()
        if service.settings.get("max_connections") != _DEFAULT_CONNECTIONS
    ]
    if together > _DEFAULT_CONNECTIONS and limited:
        top["limits"] = {"max_connections": min(together, 65536)}
    return top


def _name(services: Sequence[Imported]) -> None:
    """Give services names that ucspid takes, each its own."""
    taken: set[str] = set()
    for service in services:
        base = re.sub(r"[^a-z0-9_.-]+", "-", service.name.lower()).strip("-_.")[:_MAX_NAME] or "service"
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base[: _MAX_NAME - len(str(number)) - 1]}-{number}"
        assert re.fullmatch(ServiceName.pattern, name)
        taken.add(name)
        service.name = name


def _check_texts(services: Sequence[Imported]) -> None:
    """Take out services with texts that YAML cannot hold."""
    for service in services:
        if any(not text.isascii() and not _is_text(text) for text in _texts(service.settings)):
            service.cannot(service.place, "it has bytes that are not UTF-8", "rewrite it in UTF-8")
            service.settings = _replaced(service.settings)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a setting."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for key, item in value.items():
                yield from _texts(key)
                yield from _texts(item)
        case AccessRule():
            yield from _texts(vars(value))


def _replaced(value: Any) -> Any:
    match value:
        case AccessRule():
            return AccessRule(**_replaced(vars(value)))
        case str():
            return value.encode("utf-8", "replace").decode()
        case list():
            return [_replaced(item) for item in value]
        case dict():
            return {_replaced(key): _replaced(item) for key, item in value.items()}
    return value


def _check_listeners(services: Sequence[Imported]) -> None:
    """Take out services whose address another one has."""
    taken = Listeners()
    for service in services:
        given = service.settings["listen"]
        for written in given if isinstance(given, list) else [given]:
            try:
                address = written["address"] if isinstance(written, dict) else written
                endpoint = Listen.parse(str(address)).endpoint
            except Misfit as error:
                raise ConfigError([f"{service.place}: {address}: {error}"]) from None
            if clash := taken.take(endpoint, service.name):
                service.cannot(
                    service.place,
                    f"{address} belongs to the service {clash[1]} already",
                    "choose one of the two",
                )
                break
