"""What services have in common, pulled out to defaults; what is ucspid's own default, left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from ucspid.config.forms import Form
from ucspid.config.schema import SettingsSection
from ucspid.importers.description import Imported

ORDER = (
    "listen", "program", "argv0", "forward", "user", "group", "groups", "chdir", "chroot", "umask", "nice",
    "rlimits", "no_new_privs", "env", "inherit_env", "user_env", "env_dialect", "stderr", "stderr_rate",
    "rules", "unusable_rules", "default_action", "lookup", "exempt", "max_connections", "on_full",
    "max_per_ip", "ipv4_prefix", "ipv6_prefix", "rate_per_ip", "burst", "rate", "refuse_message",
    "banner", "throttle", "nodelay", "keepalive", "backlog", "drain_timeout", "kill_timeout",
    "max_lifetime",
)  # fmt: skip
"""The order in which settings are written; others come after these."""

_OWN = {"listen", "program", "argv0", "forward"}
"""Settings that are not allowed in defaults."""


def ordered(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in the order in which they are written."""
    place = {key: number for number, key in enumerate(ORDER)}
    return dict(sorted(settings.items(), key=lambda item: place.get(item[0], len(place))))


def share(services: Sequence[Imported]) -> dict[str, Any]:
    """Return the defaults of the services, and take from each what they say or ucspid has anyway.

    A setting becomes a default if every service has it, and more than half of them, two at least,
    have the same value.
    """
    defaults: dict[str, Any] = {}
    keys = {key for service in services for key in service.settings} - _OWN
    for key in keys:
        if all(key in service.settings for service in services):
            common = _most_common([service.settings[key] for service in services])
            if common is not None:
                defaults[key] = common[0]
    for service in services:
        _omit(service, defaults)
    return ordered({key: value for key, value in defaults.items() if not is_default(key, value)})


def _omit(service: Imported, defaults: Mapping[str, Any]) -> None:
    for key in set(service.settings) - _OWN:
        value = service.settings[key]
        known = value == defaults[key] if key in defaults else is_default(key, value)
        if known:
            del service.settings[key]
            service.beside.pop(key, None)


def _most_common(values: Sequence[Any]) -> tuple[Any] | None:
    for value in values[: len(values) // 2 + 1]:
        count = values.count(value)
        if count >= max(2, len(values) // 2 + 1):
            return (value,)
    return None


def is_default(key: str, value: Any) -> bool:
    """Say whether a setting is what ucspid has anyway."""
    return key in _DEFAULTS and bool(_DEFAULTS[key] == value)


def _defaults() -> dict[str, Any]:
    """Return ucspid's own defaults as a file would write them."""
    found: dict[str, Any] = {}
    plain = SettingsSection()
    for key in SettingsSection.__struct_fields__:
        value = getattr(plain, key)
        if isinstance(value, Form):
            found[key] = value.written()
        elif value is None or isinstance(value, bool | int | str | list | dict):
            found[key] = value
    return found


_DEFAULTS = _defaults()
