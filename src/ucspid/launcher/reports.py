"""What a launcher reports to the loop, in order; the slot of a session is cleared when its end was sent."""

from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.ipc.messages import Report
from ucspid.ipc.session_table import Table

_IN_A_PACKET = 256


class Reports:
    """Reports that wait to be sent, and the slots to clear."""

    def __init__(self, loop: Channel, table: Table) -> None:
        """Send over the loop's channel."""
        self._loop = loop
        self._table = table
        self._waiting: list[bytes] = []
        self._ended: list[int] = []

    @property
    def waiting(self) -> bool:
        """Whether there is something that flush() has not been called for."""
        return bool(self._waiting)

    def add(self, report: bytes) -> None:
        """Report something that is in no slot: a packed Report."""
        self._waiting.append(report)

    def add_first(self, report: bytes) -> None:
        """Report something before all else."""
        self._waiting.insert(0, report)

    def of(self, kind: int, slot: int, status: int = 0) -> None:
        """Report something of the session in a slot."""
        self.add(self._report(kind, slot, status, (0, 0, 0)))

    def end(
        self, slot: int, status: int, used: tuple[int, int, int] = (0, 0, 0), kind: int = wire.EXITED
    ) -> None:
        """Report the end of the session in a slot: status, CPU times and memory as in a report."""
        self.add(self._report(kind, slot, status, used))
        self.clear(slot)

    def clear(self, slot: int) -> None:
        """Clear a slot when all that was reported before is sent."""
        self._ended.append(slot)

    def flush(self) -> None:
        """Send the reports; a slot is cleared only when its end was sent, so that no crash hides it."""
        for start in range(0, len(self._waiting), _IN_A_PACKET):
            self._loop.send(b"".join(self._waiting[start : start + _IN_A_PACKET]))
        self._waiting.clear()
        if self._loop.backed_up:
            self._loop.flush()
        if not self._loop.backed_up:
            for slot in self._ended:
                self._table.release(slot)
            self._ended.clear()

    def _report(self, kind: int, slot: int, status: int, used: tuple[int, int, int]) -> bytes:
        connection, process, service, tag = self._table.read(slot)
        return Report.head(kind, status, process, service, connection, *used, tag)
