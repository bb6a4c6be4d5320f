"""The objects that the parts of the master share."""

import socket

from ucspid.master.certificates import CertificateFollower
from ucspid.master.children import Children
from ucspid.master.event_log import EventLog
from ucspid.master.holdings import Holdings
from ucspid.master.launcher_starter import LauncherStarter
from ucspid.master.leftovers import Leftovers
from ucspid.master.loop_supervisor import LoopSupervisor
from ucspid.master.notify import Readiness
from ucspid.master.poller import Poller
from ucspid.master.settling import Settling
from ucspid.master.tls_keeper import TlsKeeper
from ucspid.master.watchdog import Watchdog
from ucspid.master.web import WebSupervisor
from ucspid.plan import Plan
from ucspid.records import dataclass


@dataclass(frozen=True, slots=True)
class Given:
    """A plan that is in no file: its name, sockets that listen already, and what says that all is served."""

    plan: Plan
    name: str
    listening: tuple[socket.socket, ...]
    ready: bytes


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each; config is the path of the file, or the name of the plan that was given in its place."""

    config: str
    given: Plan | None
    poller: Poller
    children: Children
    log: EventLog
    held: Holdings
    settling: Settling
    loop: LoopSupervisor
    starter: LauncherStarter
    tls: TlsKeeper
    certificates: CertificateFollower
    readiness: Readiness
    web: WebSupervisor
    watchdog: Watchdog
    leftovers: Leftovers
