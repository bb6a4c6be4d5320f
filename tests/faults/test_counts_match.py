"""The loop's counts against made-up reports, a clock that was set back, and limits that change on the way."""

import asyncio
import socket
from functools import partial
from typing import Any

import pytest

from inprocess import FakeLauncher, Rig, added, received, serving, settings
from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc import session_tag
from ucspid.plan import Lookup

NOW = 1_800_000_000.0
"""A time of the epoch, in 2027."""

YEAR = 365 * 86_400.0


def found(rig: Rig, connection: int) -> None:
    """Have the server find a session of before, as a launcher reports it."""
    rig.server.takeover.found(1, connection, session_tag.pack(1.0, "192.0.2.1", 4000, "a"))


@pytest.mark.parametrize("back", [0.0, 3600.0, 30 * YEAR])
async def test_ids_go_on_after_those_of_sessions_from_before_the_clock_was_set_back(back: float) -> None:
    rig = Rig(NOW)
    earlier = [rig.server.takeover.next_connection() for _ in range(3)]
    rig.close()
    rig = Rig(NOW - back)
    rig.plan(settings("a"))
    for connection in earlier:
        found(rig, connection)
    assert rig.server.takeover.next_connection() == earlier[-1] + 1
    assert rig.service("a").limits.live == 3
    rig.close()


async def test_an_id_that_no_loop_can_have_given_is_made_up() -> None:
    rig = Rig(NOW)
    rig.plan(settings("a"))
    for made_up in (1 << 63, (1 << 64) - 1):
        with pytest.raises(WireError, match="out of range"):
            found(rig, made_up)
    assert rig.service("a").limits.live == 0
    assert rig.server.takeover.next_connection() >> 30 == NOW
    rig.close()


async def test_a_launcher_cannot_use_up_the_ids() -> None:
    rig = Rig(NOW)
    rig.plan(settings("a"))
    found(rig, (1 << 63) - 1)
    assert rig.server.takeover.next_connection().bit_length() == 64
    rig.close()


async def test_a_launcher_that_makes_up_a_session_of_another_is_replaced_and_counts_nothing() -> None:
    async with serving(settings("a"), now=NOW) as rig:
        rig.connect("a")
        (connection,) = await rig.starts(1)
        rig.launchers[0].started(connection)
        await rig.until(lambda: rig.named("connection_started"))
        liar = FakeLauncher(9, rig.tell)
        rig.launchers.append(liar)
        liar.starts[connection] = 1, socket.socket().detach()
        liar._tags[connection] = session_tag.pack(1.0, "192.0.2.1", 4000, "a")
        liar.report(wire.RUNNING, connection=connection, process=1)
        rig.server.add_launcher(added(9), liar.loop_end)
        await rig.until(lambda: rig.named("launcher_broken"))
        assert rig.asked[-1:] == ["broken"]
        assert rig.service("a").limits.live == 1
        rig.server.launchers.lose(9)
        rig.launchers[0].exited(connection)
        await rig.until(lambda: rig.named("connection_served"))


def nameless(on_full: Any) -> Any:
    """Return the settings of a service that asks clients for a name, which they do not have."""
    lookup = Lookup(
        remote_host=False, paranoid=False, local_host=None, local_ptr=False, ident=True, timeout=5.0
    )
    return settings("a", max_connections=1, on_full=on_full, lookup=lookup)


async def looked_up(rig: Rig, count: int) -> None:
    """Wait until so many have come in, and nobody is being looked up."""
    pipeline = rig.service("a").pipeline
    await rig.until(lambda: rig.accepted == count)
    while pipeline._tasks:
        await asyncio.wait(pipeline._tasks)


def has_served(rig: Rig, count: int) -> bool:
    return len(rig.named("connection_served")) == count


async def test_clients_that_wait_for_a_slot_after_their_lookup_outlive_a_change_to_refusing() -> None:
    async with serving(nameless("queue"), now=NOW) as rig:
        for host in (1, 2, 3):
            rig.connect("a", f"127.0.0.{host}")
        (running,) = await rig.starts(1)
        await looked_up(rig, 3)
        assert len(rig.service("a").acceptor.queue) == 2
        rig.plan(nameless("refuse"))
        assert await received(rig.connect("a", "127.0.0.4")) == b""
        assert rig.sessions("a").counts.refused == {"full": 1}
        for ended in range(1, 4):
            assert len(rig.sessions("a").by_number) == 1
            rig.launchers[0].started(running)
            rig.launchers[0].exited(running)
            await rig.until(partial(has_served, rig, ended))
            if ended < 3:
                (running,) = await rig.starts(1)
        remotes = [event["remote"].split(":")[0] for event in rig.named("connection_served")]
        assert remotes == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
