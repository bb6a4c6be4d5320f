"""The configuration file that a command line of tcpserver stands for. Pure."""

import json
from collections.abc import Mapping

from ucspid.net.endpoint import Endpoint
from ucspid.tcpserver.options import MAX_ID, CommandLine
from ucspid.tcpserver.planned import (
    LEVELS,
    LOOKUP_SECONDS,
    MAX_BACKLOG,
    MAX_CONNECTIONS,
    ident_seconds,
    nameservers,
    service_name,
)


def config_file(
    options: CommandLine, listen: Endpoint, environ: Mapping[str, str], folder: str, *, is_root: bool
) -> str:
    """Return the file as text; folder is the working directory. is_root: there are users to be named."""
    limit = min(options.limit, MAX_CONNECTIONS)
    user, group = (str(options.uid & MAX_ID), str(options.gid & MAX_ID)) if is_root else (None, None)
    top = {
        "user": user if options.uid and options.gid else None,
        "group": group if options.uid and options.gid else None,
        "control": options.control,
        "nameservers": list(nameservers(environ)),
        "log": {"format": "tcpserver", "level": LEVELS[options.verbosity]},
        "limits": {"max_connections": max(1, limit)},
        "stop": "exit",
    }
    service = {
        "listen": str(listen),
        "program": options.program,
        "user": user,
        "group": group,
        "groups": [group] if is_root else None,
        "chdir": folder,
        "inherit_env": ["*"],
        "env_dialect": "tcp6",
        "stderr": "inherit",
        "max_connections": limit,
        "max_per_ip": options.max_per_ip,
        "rate_per_ip": options.rate_per_ip,
        "rate": options.rate,
        "refuse_message": options.refuse_message or None,
        "backlog": min(options.backlog, MAX_BACKLOG),
        "nodelay": options.nodelay or None,
        "banner": options.banner or None,
        "kill_ip_options": None if options.keep_ip_options else True,
        "rules": options.rules,
        "unusable_rules": _unusable(options),
        "lookup": _lookup(options),
        "throttle": "off",
    }
    lines = [f"{key}: {_flow(value)}" for key, value in top.items() if value not in (None, [])]
    lines += ["services:", f"  {service_name(options)}:"]
    lines += [f"    {key}: {_flow(value)}" for key, value in service.items() if value is not None]
    return "\n".join(lines) + "\n"


def _unusable(options: CommandLine) -> str | None:
    if options.rules is None:
        return None
    return "allow_missing" if options.allow_missing_rules else "refuse"


def _lookup(options: CommandLine) -> dict[str, object]:
    lookup: dict[str, object] = {
        "remote_host": options.remote_host,
        "paranoid": options.paranoid and options.remote_host,
        "local_host": True if options.local_name is None else options.local_name,
        "ident": options.ident,
        "any_ident_reply": True,
        "ident_timeout": ident_seconds(options),
        "timeout": LOOKUP_SECONDS,
        "before_rules": LEVELS[options.verbosity] == "info",
    }
    return lookup


def _flow(value: object) -> str:
    """Return a value in YAML's flow style: JSON, as YAML reads it, too."""
    return json.dumps(value, ensure_ascii=True)
