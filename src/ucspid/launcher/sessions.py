"""The sessions of a launcher: started, signalled, listed, reaped, taken over from a predecessor."""

import contextlib
import errno
import os

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, close_all
from ucspid.ipc.session_table import Table
from ucspid.launcher.programs import Programs
from ucspid.launcher.reports import Reports
from ucspid.linux import process_group


class RunningPrograms:
    """The programs that run, by their processes, each with its slot in the table."""

    def __init__(self, master: Channel, table: Table, programs: Programs, reports: Reports) -> None:
        """Begin with none; what the table has is taken over by take_over()."""
        self.running: dict[int, int] = {}
        self._orphans: set[int] = set()
        self._master = master
        self._table = table
        self._programs = programs
        self._reports = reports

    def take_over(self, orphans: set[int]) -> None:
        """Take over the sessions of a predecessor: orphans are its programs that still run.

        A session that was being started when it died has no process noted; if one orphan is
        in no slot, that is it (programs lead a process group, so the master can tell them
        from their descendants).
        """
        unclaimed = orphans - {self._table.read(slot)[1] for slot in self._table.taken()}
        for slot in list(self._table.taken()):
            process = self._table.read(slot)[1]
            if process == 0 and unclaimed:
                process = unclaimed.pop()
                self._table.started(slot, process)
                self._reports.of(wire.STARTED, slot)
            if process in orphans and process not in self.running:
                self.running[process] = slot
                self._orphans.add(process)
            elif process == 0:
                self._reports.end(slot, errno.EOWNERDEAD, kind=wire.FAILED)
            else:
                self._reports.end(slot, wire.STATUS_UNKNOWN)

    # What the loop asks

    def start(self, packet: bytes, descriptors: list[int]) -> None:
        """Start a program on the sockets that came with a Start. Raises WireError for as many as none has."""
        if len(descriptors) > wire.SOCKETS and len(descriptors) != wire.SOCKETS_WITH_TLS:
            close_all(descriptors)
            raise WireError(f"a start with {len(descriptors)} descriptors")
        service, connection, tag = wire.Start.peek(packet)
        slot, process, reason = None, 0, 0
        try:
            slot = self._table.claim(connection, service, tag)
            process = self._programs[service].start(
                descriptors[0], descriptors[1:], packet[wire.Start.SIZE :]
            )
        except (OSError, OverflowError, LookupError, ValueError, WireError) as problem:
            reason = (problem.errno if isinstance(problem, OSError) else None) or errno.EINVAL
        finally:
            close_all(descriptors)
        if slot is not None and process:
            self._table.started(slot, process)
            self.running[process] = slot
        elif slot is not None:
            self._reports.clear(slot)
        kind = wire.STARTED if process else wire.FAILED
        self._reports.add(wire.Report.head(kind, reason, process, service, connection, 0, 0, 0, tag))

    def signal(self, packet: bytes, _descriptors: list[int]) -> None:
        """Signal a program; an orphan is the master's to signal."""
        asked = wire.Signal.unpack(packet)
        slot = self.running.get(asked.process)
        if slot is None or self._table.read(slot)[0] != asked.connection:
            return
        if asked.process in self._orphans:
            self._master.send(wire.SignalOrphan(asked.number, asked.process).pack())
        else:
            process_group.send_signal(asked.process, asked.number)

    def report_all(self) -> None:
        """Report all that run."""
        for slot in self.running.values():
            self._reports.of(wire.RUNNING, slot)

    # Programs that have ended

    def reap(self) -> None:
        """Report the programs that have ended; a child that a program has made is not one (CLONE_PARENT)."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                process, status, usage = ended
                used = (int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6), usage.ru_maxrss)
                self.ended(process, status, used)

    def ended(self, process: int, status: int, used: tuple[int, int, int]) -> None:
        """Report the end of a process, if it is a program."""
        slot = self.running.pop(process, None)
        if slot is not None:
            self._reports.end(slot, status, used)

    def orphan_exited(self, packet: bytes, _descriptors: list[int]) -> None:
        """Report the end of an orphan, as the master has seen it."""
        exit_ = wire.OrphanExit.unpack(packet)
        self._orphans.discard(exit_.process)
        self.ended(exit_.process, exit_.status, (exit_.user, exit_.system, exit_.max_rss))

    def forget_orphans(self) -> None:
        """Stop waiting for the orphans: without a master no process will report their end."""
        for process in self._orphans:
            self._reports.end(self.running.pop(process), wire.STATUS_UNKNOWN)
        self._orphans.clear()
