"""ucspid install and uninstall: what the host needs beside the package: shown, or done with --write."""

import argparse
import os
import subprocess

from ucspid.cli.host_items import FOLDER, UNIT, Folder, Item, Link, UnitFile, User, command, shared_files
from ucspid.errors import ConfigError, ResourceError

_SYSTEMD = "/run/systemd/system"
"""There while systemd runs the host."""


def install(options: argparse.Namespace) -> int:
    """Show what is missing, or make it. Raises ConfigError if something else is in the way, OSError."""
    items = items_of(options.root)
    in_the_way = [f"{item}: something else is there; nothing was made" for item in items if item.foreign]
    if in_the_way:
        raise ConfigError(in_the_way)
    for item in items:
        if item.there:
            print(f"is there  {item}")
        elif options.write:
            item.make()
            print(f"made      {item}")
        else:
            print(f"missing   {item}")
    if not options.write:
        print("Nothing was changed: ucspid install --write makes what is missing.")
        return 0
    if _on_this_host(options.root):
        _systemctl("daemon-reload")
    print(f"Next: write {FOLDER}/ucspid.yaml, then: ucspid check && systemctl enable --now ucspid")
    return 0


def uninstall(options: argparse.Namespace) -> int:
    """Show what install() has made, or remove it; the configuration stays. Raises OSError."""
    items = [item for item in reversed(items_of(options.root)) if not item.foreign]
    unit = next(item for item in items_of(options.root) if isinstance(item, UnitFile))
    if options.write and unit.present and not unit.foreign and _on_this_host(options.root):
        _systemctl("disable", "--now", "ucspid")
    for item in items:
        if not item.present:
            continue
        if item.kept:
            print(f"kept      {item}: {item.kept}")
        elif options.write:
            item.remove()
            print(f"removed   {item}")
        else:
            print(f"to remove {item}")
    if not options.write:
        print("Nothing was changed: ucspid uninstall --write stops the daemon and removes this.")
    elif _on_this_host(options.root):
        _systemctl("daemon-reload")
    return 0


def items_of(root: str) -> list[Item]:
    """Return all that belongs to an installation, in the order in which it is made."""
    links = [Link(root, place, target) for place, target in shared_files()]
    return [
        User(root),
        Folder(root, FOLDER),
        UnitFile(root, UNIT),
        Link(root, "/usr/local/bin/ucspid", command()),
        *links,
    ]


def _on_this_host(root: str) -> bool:
    return os.path.realpath(root) == "/" and os.path.isdir(_SYSTEMD)


def _systemctl(*arguments: str) -> None:
    """Raises ResourceError if it fails; what it says is on standard error already."""
    print(f"run       systemctl {' '.join(arguments)}", flush=True)
    if subprocess.run(["systemctl", *arguments], check=False).returncode != 0:  # noqa: S607 - as administrators do
        raise ResourceError(f"systemctl {arguments[0]} fails")
