"""A launcher against a loop that was subverted, and against what a subverted predecessor has noted."""

import contextlib
import os
import select
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiers import examples
from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair
from ucspid.ipc.session_table import CAPACITY, SIZE, Table, processes
from ucspid.launcher.executed import ExecutedProgram
from ucspid.launcher.programs import Programs
from ucspid.launcher.serve import Launcher
from ucspid.linux.lending import Lending

SERVICE = 7
NOBODYS = 1 << 22
"""No process has this number or a higher one: PID_MAX_LIMIT of the kernel."""


class Alone:
    """A launcher in this process, which can start nothing, between the test as its master and as its loop."""

    def __init__(self, content: bytes = b"") -> None:
        self.master, masters = map(Channel, pair())
        self.loop, loops = map(Channel, pair())
        self.memory = os.memfd_create("table")
        os.ftruncate(self.memory, SIZE)
        os.pwrite(self.memory, content, 0)
        self.signals, self._writing = os.pipe()
        self.ends = [self.master, masters, self.loop, loops]
        nowhere = wire.SetProgram(
            service=SERVICE,
            stderr=wire.STDERR_KEPT,
            executable="/does/not/exist",
            arguments=(b"x",),
            environment=(),
            names=(b"TCPREMOTEIP",),
        )
        self.table = Table(self.memory)
        make = partial(ExecutedProgram, cast("Lending", Unlent()))
        self.launcher = Launcher(masters, loops, self.table, self.signals, Programs(make))
        self.launcher.programs.by_service[SERVICE] = make(nowhere, [])
        for descriptor in (masters.fileno(), loops.fileno()):
            self.launcher._poll.register(descriptor, select.POLLIN)

    def hear(self, packet: bytes, descriptors: tuple[int, ...] = ()) -> bool:
        """Have it hear a packet of the loop's; return whether it takes it for one."""
        self.loop.send(packet, descriptors)
        try:
            self.launcher.hear_loop()
        except WireError:
            return False
        self.launcher.flush()
        return True

    def reports(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        while packet := self.loop.receive_packet():
            found += wire.Report.rows(packet)
        return found

    def close(self) -> None:
        for channel in self.ends:
            channel.sock.close()
        for descriptor in (self.memory, self.signals, self._writing):
            os.close(descriptor)


class Unlent:
    """Lends nothing: the descriptors 0, 1 and 2 are the test's."""

    def lend(self, client: int, stderr: int | None) -> None:
        assert os.fstat(client)
        assert stderr is None

    def take_back(self) -> None:
        """Nothing was lent."""


@contextlib.contextmanager
def alone(content: bytes = b"") -> Iterator[Alone]:
    launcher = Alone(content)
    try:
        yield launcher
    finally:
        launcher.close()


heads = st.one_of(
    st.builds(
        wire.Start.head,
        st.sampled_from([SERVICE, 0, 2**32 - 1]),
        st.integers(0, 2**64 - 1),
        st.binary(min_size=wire.TAG_SIZE, max_size=wire.TAG_SIZE),
    ),
    st.builds(
        wire.Signal.head,
        st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1),
    ),
    st.builds(wire.ListSessions.head, st.integers(0, 2**64 - 1)),
    st.integers(0, 255).map(lambda kind: bytes([kind])),
)  # fmt: skip
packets = st.builds(bytes.__add__, heads, st.binary(max_size=30) | st.just(b"")).filter(
    lambda packet: packet[0] != wire.Drain.KIND
)


@given(st.lists(st.tuples(packets, st.integers(0, 5)), max_size=12))
@settings(max_examples=examples(60), deadline=None)
def test_whatever_a_loop_says_starts_nothing_leaks_nothing_and_is_taken_or_refused(
    said: list[tuple[bytes, int]],
) -> None:
    with alone() as launcher:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        taken = all(launcher.hear(packet, count * (writing,)) for packet, count in said)
        os.close(writing)
        if taken:  # it ends otherwise, and what it holds with it
            assert os.read(reading, 1) == b""
        os.close(reading)
        assert list(launcher.table.taken()) == []
        assert {report[0] for report in launcher.reports()} <= {wire.FAILED, wire.LISTED}


rows = st.builds(
    lambda connection, process, service, tag: (
        connection.to_bytes(8, "little")
        + process.to_bytes(4, "little")
        + service.to_bytes(4, "little")
        + tag
        + bytes(8)
    ),
    st.integers(0, 3) | st.integers(0, 2**64 - 1),
    st.integers(0, 1) | st.integers(NOBODYS, NOBODYS + 3) | st.integers(NOBODYS, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=wire.TAG_SIZE, max_size=wire.TAG_SIZE),
)
contents = st.lists(rows, max_size=8).map(b"".join) | st.binary(max_size=1000)


@given(contents, st.sets(st.integers(NOBODYS, NOBODYS + 3)))
@settings(max_examples=examples(60), deadline=None)
def test_whatever_a_predecessor_left_is_taken_over_and_the_master_can_read_it(
    content: bytes, orphans: set[int]
) -> None:
    with alone(content) as launcher:
        named = processes(launcher.memory)
        assert all(0 <= process < 2**32 for process in named)
        before = len(list(launcher.table.taken()))
        launcher.launcher.sessions.take_over(orphans)
        launcher.launcher.flush()
        said = launcher.reports()
        assert len(said) <= 2 * before
        assert {report[0] for report in said} <= {wire.STARTED, wire.FAILED, wire.EXITED}
        assert set(launcher.launcher.sessions.running) <= orphans
        assert launcher.hear(wire.ListSessions.head(5))
        listed = launcher.reports()
        assert {report[2] for report in listed if report[0] == wire.RUNNING} == set(
            launcher.launcher.sessions.running
        )
        for process in sorted(orphans):
            launcher.launcher.hear_master(wire.OrphanExit(process, 0, 0, 0, 0).pack(), [])
        launcher.launcher.flush()
        assert not launcher.launcher.sessions.running


@pytest.mark.parametrize("packet", [wire.ListSessions.head(1), wire.Drain().pack(), b"\xff"])
def test_descriptors_with_a_message_that_takes_none_are_refused_and_closed(packet: bytes) -> None:
    with alone() as launcher:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        assert not launcher.hear(packet, (writing, writing))
        os.close(writing)
        assert os.read(reading, 1) == b""
        os.close(reading)


def test_a_table_that_is_full_to_the_brim_is_read_and_holds_no_more() -> None:
    row = (1).to_bytes(8, "little") + b"\xff" * (SIZE // CAPACITY - 8)
    with alone(CAPACITY * row) as launcher:
        assert processes(launcher.memory) == {2**32 - 1}
        assert launcher.hear(wire.Start.head(SERVICE, 5, bytes(wire.TAG_SIZE)))
        (failed,) = launcher.reports()
        assert failed[0] == wire.FAILED
        launcher.launcher.sessions.take_over(set())
        launcher.launcher.flush()
        while launcher.launcher._loop.backed_up:
            assert launcher.reports()
            launcher.launcher.flush()
        assert list(launcher.table.taken()) == []


@pytest.mark.parametrize("process", [0, 1, NOBODYS - 1])
def test_a_signal_to_what_the_launcher_did_not_start_goes_nowhere(process: int) -> None:
    with alone() as launcher:
        slot = launcher.table.claim(9, SERVICE, b"")
        launcher.table.started(slot, process)
        assert launcher.hear(wire.Signal.head(9, process, 9))
