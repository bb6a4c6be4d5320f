"""A soak test: clients of every kind, faults of every kind, at random, against what must always be true.

make soak [MINUTES=60] [SEED=1234]; or this file itself, with tests/support in PYTHONPATH.
The seed that is printed repeats the same choices, though not their timing to the microsecond. What must be
true: no connection is refused by the kernel; a session that has begun is ended by nobody but its
client; a client that comes in is served or gets the reason, but for those that a killed process had in
its hands, of which each death has few; limits hold as clients see them; and at every rest the
counts match what the launchers and the kernel report, and what the clients did.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from daemon import Daemon
from soak_clients import Clients
from soak_faults import Faults, asked

REST = 10.0
"""Seconds in which a daemon without clients must have come to rest."""

ROUND = 12.0
"""Seconds of load between two rests."""

GREETING_CAT = ["/bin/sh", "-c", "echo in; exec /bin/cat"]
"""Says that a client is in: whoever is not reads why, and has sent nothing that could overtake it."""

SERVICES: dict[str, dict[str, Any]] = {
    "short": {"program": ["/bin/echo", "ok"], "max_connections": 20},
    "other": {"program": ["/bin/echo", "ok"], "umask": "077"},
    "echo": {"program": ["/bin/cat"], "max_connections": 60},
    "full": {"program": GREETING_CAT, "max_connections": 5, "on_full": "refuse", "refuse_message": "full\n"},
    "per_ip": {"program": GREETING_CAT, "max_per_ip": 3, "refuse_message": "busy\n"},
    "ruled": {"program": ["/bin/cat"]},
    "failing": {"program": ["/bin/sh", "-c", "echo failing; exit 111"]},
}
"""What the clients of soak_clients expect."""


def configuration(folder: Path) -> dict[str, Any]:
    """Return the configuration to begin with; the faults change it and change it back."""
    rules = folder / "rules"
    rules.write_text("127.0.9.:deny\n:allow\n")
    services = {name: {"listen": "127.0.0.1:0", **service} for name, service in SERVICES.items()}
    services["ruled"]["rules"] = str(rules)
    return {"log": {"level": "warning"}, "services": services}


async def soak(daemon: Daemon, seconds: float, seed: int) -> list[str]:
    """Load the daemon and hurt it for so many seconds; return what was not as it must be."""
    clients = Clients(daemon, random.Random(f"{seed} clients"))
    faults = Faults(daemon, random.Random(f"{seed} faults"), clients)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not clients.wrong:
        loads = asyncio.create_task(clients.load(min(ROUND, end - time.monotonic())))
        await faults.until(loads)
        await faults.heal()
        await clients.rest()
        clients.wrong += await asyncio.to_thread(differences, daemon, clients)
        say(clients, faults)
    return clients.wrong


def at_rest(daemon: Daemon) -> dict[str, Any]:
    """Return the status when nothing lives any more, or after REST seconds.

    Clients that have reset their connections may still be in the kernel's backlog, and get programs.
    """
    end = time.monotonic() + REST
    while True:
        status: dict[str, Any] = asked(daemon.status)
        if not status["totals"]["live"] or time.monotonic() > end:
            return status


def differences(daemon: Daemon, clients: Clients) -> list[str]:
    """Return what differs from what the counts must be when no client is connected."""
    status = at_rest(daemon)
    wrong = asked(daemon.differences)
    for service in status["services"]:
        refused, failed = sum(service["refused"].values()), sum(service["failed"].values())
        if service["accepted"] != service["served"] + refused + failed + service["live"]:
            wrong.append(f"{service['name']}: does not balance: {service}")
        if service["live"]:
            wrong.append(f"{service['name']}: {service['live']} live, and no client is there")
        low, high = clients.connected(service["name"])
        if not low <= service["accepted"] <= high:
            wrong.append(f"{service['name']}: {service['accepted']} accepted, {low} to {high} connected")
    return wrong


def say(clients: Clients, faults: Faults) -> None:
    """Print what has happened so far."""
    sys.stdout.write(f"{clients.summary()}; {faults.summary()}\n")
    sys.stdout.flush()


def main() -> int:
    """Run; return 1 if anything was not as it must be."""
    parser = argparse.ArgumentParser(description="hurt a daemon under load at random, and check it")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    with tempfile.TemporaryDirectory(prefix="ucspid-soak-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemon = Daemon(folder, configuration(folder)).start()
        try:
            wrong = asyncio.run(soak(daemon, 60 * arguments.minutes, arguments.seed))
            if daemon.stop() != 0:
                wrong.append("the daemon did not stop in order")
            wrong += [f"on standard error: {line}" for line in daemon.stderr]
            wrong += [f"in the log: {event}" for event in daemon.events if event["event"] == "internal_error"]
        finally:
            daemon.kill()
    for line in wrong:
        sys.stdout.write(f"WRONG: {line}\n")
    sys.stdout.write(f"seed {arguments.seed}: {'failed' if wrong else 'all as it must be'}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
