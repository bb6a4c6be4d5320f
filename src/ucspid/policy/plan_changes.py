"""What differs between two plans, in words: what a reload prints."""

import json

from ucspid.plan import Plan, Rate, Service
from ucspid.records import fields

_TOO_LONG = {
    "profile": "privileges changed",
    "env": "environment changed",
    "rules": "rules changed",
    "rule_env": "variables that rules set changed",
    "lookup": "lookups changed",
    "exempt": "exempt networks changed",
    "socket_files": "who may connect changed",
    "preloaded": "what is imported changed",
}
"""What is said of fields whose values would not fit a line."""


def changes(old: Plan | None, new: Plan) -> list[str]:
    """Return a line for each service added, removed or changed, and for the rest of the file.

    A reload imports preloaded programs again, so that they may have changed.
    """
    before = {service.name: service for service in old.services} if old else {}
    after = {service.name: service for service in new.services}
    lines = [f"{name}: removed" for name in before if name not in after]
    for name, service in after.items():
        if name not in before:
            lines.append(f"{name}: added, listening on {_listen(service)}")
        elif service != before[name]:
            lines.append(f"{name}: {_difference(before[name], service)}")
        elif service.preloaded is not None and not service.preloaded.own:
            lines.append(f"{name}: the program was imported again")
    if old is not None:
        lines += [
            f"{name}: {_show(getattr(old, name))} -> {_show(getattr(new, name))}"
            for name in (
                "uid",
                "gid",
                "groups",
                "control",
                "control_group",
                "nameservers",
                "log",
                "max_connections",
            )
            if getattr(old, name) != getattr(new, name)
        ]
        if old.web != new.web:
            pages = [_show(None if plan.web is None else plan.web.listen) for plan in (old, new)]
            lines.append(f"web: {pages[0]} -> {pages[1]}" if pages[0] != pages[1] else "web: user changed")
        if old.control_mode != new.control_mode:
            lines.append(f"control_mode: {old.control_mode:04o} -> {new.control_mode:04o}")
    return lines


def _difference(old: Service, new: Service) -> str:
    parts = []
    for field in fields(Service):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        if field.name == "listen":
            parts.append(f"listen {_listen(old)} -> {_listen(new)}")
        elif field.name in _TOO_LONG:
            parts.append(_TOO_LONG[field.name])
        else:
            parts.append(f"{field.name} {_show(before)} -> {_show(after)}")
    return ", ".join(parts)


def _listen(service: Service) -> str:
    return " ".join(str(address) for address in service.listen)


def _show(value: object) -> str:
    if value in (None, "", ()):
        return "none"
    if isinstance(value, float):
        return f"{value:g}s"
    if isinstance(value, Rate):
        return f"{value.count}/{value.seconds:g}s"
    text = " ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
    return text if text.isprintable() else json.dumps(text, ensure_ascii=False)
