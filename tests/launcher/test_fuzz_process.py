"""Launcher processes of either kind against loops that were subverted, broken masters, and odd tables."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from launchers import KINDS, SERVICE, Peers, choose
from plans import PROFILES
from tiers import examples
from ucspid.codec import Packed
from ucspid.errors import EXIT_SYSTEM
from ucspid.ipc import messages as wire
from ucspid.ipc.session_table import SIZE, SessionSlot, Table

MISSING = 8
"""The number of a service whose program is not there."""

NOBODYS = 1 << 22
"""No process has this number or a higher one: PID_MAX_LIMIT of the kernel."""

fuzzed = settings(
    max_examples=examples(int(os.environ.get("UCSPID_FUZZ_EXAMPLES", "25"))),  # make fuzz has many more
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes longer than a test may
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SOME = st.integers(0, 3)
COUNTS = st.integers(0, wire.SOCKETS_WITH_TLS + 2)
"""Of descriptors beside a packet."""
U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
TAGS = st.binary(min_size=wire.TAG_SIZE, max_size=wire.TAG_SIZE)
NAMES = st.sampled_from([b"PROTO", b"TCPREMOTEIP", b"LD_PRELOAD", b""]) | st.binary(max_size=20)
SETTINGS = st.builds(lambda name, value: name + b"=" + value, NAMES, st.binary(max_size=200))
VARIABLES = st.lists(SETTINGS).map(b"\0".join) | st.binary(max_size=300) | st.integers(0, 2000).map(bytes)
SERVICES = st.sampled_from([SERVICE, MISSING, 0, 2**32 - 1])


def packed(*messages: type[Packed], **fields: st.SearchStrategy[object]) -> st.SearchStrategy[bytes]:
    """Return packets of messages whose fields are these."""
    return st.one_of([st.builds(message, **fields).map(message.pack) for message in messages])


def broken(packets: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return packets, and what is nearly one."""
    cut = st.builds(lambda packet, size: packet[: size % len(packet)] or b"\0", packets, U16)
    changed = st.builds(
        lambda packet, place, byte: packet[: place % len(packet)] + byte + packet[place % len(packet) + 1 :],
        packets, U16, st.binary(min_size=1, max_size=1),
    )  # fmt: skip
    return packets | cut | changed | st.builds(bytes.__add__, packets, st.binary(max_size=30))


ASKED = st.one_of(
    packed(wire.Start, service=SERVICES, connection=U64 | SOME, tag=TAGS, variables=VARIABLES),
    packed(wire.Signal, number=U16, process=U32 | SOME, connection=U64 | SOME),
    packed(wire.ListSessions, token=U64),
)
STRINGS = st.lists(st.binary(max_size=20)).map(tuple)
NUMBERS = st.lists(U32).map(tuple)
TOLD = st.one_of(
    packed(
        wire.SetProgram, service=SERVICES, stderr=SOME, executable=st.sampled_from(["/bin/true", "x", "\0"]),
        arguments=STRINGS, environment=STRINGS, names=STRINGS,
    ),
    packed(wire.AllowNames, wire.ForbidNames, service=SERVICES, names=STRINGS),
    packed(wire.RemovePrograms, services=NUMBERS),
    packed(wire.Orphans, processes=NUMBERS),
    packed(wire.OrphanExit, process=U32, status=st.integers(-1, 2**16), user=U64, system=U64, max_rss=U64),
    packed(
        wire.TakePrivileges, version=st.just(wire.VERSION) | U32, nofile=st.none() | st.just(100),
        title=st.text(), profile=PROFILES.map(lambda profile: profile.changed(uid=None, rlimits=())),
    ),
)  # fmt: skip


@pytest.fixture(params=[*KINDS, pytest.param("preloaded", marks=pytest.mark.slow)])
def peers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Peers]:
    if request.param == "preloaded":
        script = tmp_path / "program.py"
        script.write_text("import os\nos._exit(0)\n")
        peers = Peers("python")
        peers.set_python(str(script))
    else:
        peers = Peers(choose(request.param, monkeypatch))
        peers.set_program("/bin/true")
        peers.set_program("/does/not/exist", service=MISSING)
    yield peers
    peers.close()


def last_words(peers: Peers) -> list[int]:
    """Return the kinds of all reports that wait."""
    peers.loop.setblocking(False)
    found = []
    try:
        while packet := peers.loop.recv(wire.MAX_PACKET):
            found += [report[0] for report in wire.Report.rows(packet)]
    except BlockingIOError:
        return found
    finally:
        peers.loop.settimeout(10)
    raise AssertionError("the channel has an end")


@given(said=st.lists(st.tuples(broken(ASKED), COUNTS), max_size=12))
@fuzzed
def test_whatever_a_loop_says_is_taken_or_refused_and_leaks_nothing(
    peers: Peers, capfd: pytest.CaptureFixture[str], said: list[tuple[bytes, int]]
) -> None:
    peers.ready()
    reading, writing = os.pipe()
    for packet, count in said:
        socket.send_fds(peers.loop, [packet], count * [writing])
    os.close(writing)
    peers.loop.send(wire.Drain().pack())
    status = peers.exit()
    assert status in {0, EXIT_SYSTEM}
    assert len(capfd.readouterr().err.splitlines()) == (status == EXIT_SYSTEM)
    kinds = last_words(peers)
    if status == 0:
        assert list(Table(peers.memory).taken()) == []
        assert kinds.count(wire.STARTED) <= kinds.count(wire.EXITED) + kinds.count(wire.FAILED)
    else:
        peers.drain()
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""  # nobody has a descriptor any more


@pytest.mark.parametrize("peers", KINDS[1:], indirect=True)
@given(said=st.lists(broken(TOLD), max_size=8), orders=st.booleans())
@fuzzed
def test_what_no_master_says_ends_a_native_launcher_in_order(
    peers: Peers, capfd: pytest.CaptureFixture[str], said: list[bytes], orders: bool
) -> None:
    peers.launch()
    with contextlib.suppress(ConnectionError):  # it has ended
        for packet in [*peers.programs.values(), *said]:
            peers.master.send(packet)
        if orders:
            peers.take_privileges()
    peers.loop.send(wire.Drain().pack())
    peers.master.close()
    status = peers.exit()
    peers.drain()
    said_last = capfd.readouterr().err
    assert status in {0, EXIT_SYSTEM}, said_last
    assert len(said_last.splitlines()) <= 1


ROWS = packed(
    SessionSlot,
    connection=SOME | U64,
    process=st.integers(0, 1) | st.integers(NOBODYS, NOBODYS + 3) | st.integers(NOBODYS, 2**32 - 1),
    service=U32,
    tag=TAGS,
)


@given(
    content=st.lists(ROWS, max_size=8).map(b"".join) | st.binary(max_size=1000),
    orphans=st.sets(st.integers(NOBODYS, NOBODYS + 3)),
)
@fuzzed
def test_whatever_a_predecessor_left_is_taken_over_and_comes_to_an_end(
    peers: Peers, content: bytes, orphans: set[int]
) -> None:
    os.ftruncate(peers.memory, 0)
    os.ftruncate(peers.memory, SIZE)
    os.pwrite(peers.memory, content, 0)
    before = len(list(Table(peers.memory).taken()))
    peers.ready(orphans)
    listed = peers.list()
    assert {report.process for report in listed.values()} <= orphans
    assert len(listed) <= before
    for process in sorted(orphans):
        peers.master.send(wire.OrphanExit(process, 0, 0, 0, 0).pack())
    assert peers.list(2) == {}
    peers.loop.send(wire.Drain().pack())
    assert peers.exit() == 0
    peers.reports.clear()
    assert list(Table(peers.memory).taken()) == []
