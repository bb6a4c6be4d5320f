"""The objects that the parts of the master share."""

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
    """One of each; config is the path of the configuration file."""

    config: str
    poller: Poller
    children: Children
    log: EventLog
    held: Holdings
    settling: Settling
    loop: LoopSupervisor
    starter: LauncherStarter
    readiness: Readiness
