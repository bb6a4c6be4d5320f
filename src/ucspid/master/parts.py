"""The parts of the master that all others work with."""

from dataclasses import dataclass

from ucspid.master.children import Children
from ucspid.master.event_log import EventLog
from ucspid.master.holdings import Holdings
from ucspid.master.launcher_starter import LauncherStarter
from ucspid.master.loop_supervisor import LoopSupervisor
from ucspid.master.notify import Readiness
from ucspid.master.poller import Poller
from ucspid.master.settling import Settling


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is once in a master; config is the path of the file."""

    config: str
    poller: Poller
    children: Children
    log: EventLog
    held: Holdings
    settling: Settling
    loop: LoopSupervisor
    starter: LauncherStarter
    readiness: Readiness
