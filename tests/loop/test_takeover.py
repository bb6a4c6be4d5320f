"""What a new loop accepts from launchers about earlier sessions, and what it refuses."""

import pytest

from inprocess import Rig, serving, settings
from ucspid.errors import WireError
from ucspid.ipc import session_tag
from ucspid.ipc.counters import ACCEPTED, LOOP_DIED, ROWS

NOW = 1_800_000_000.0
"""The first loop's start."""


def tag(name: str) -> bytes:
    return session_tag.pack(1.0, "192.0.2.1", 4000, name)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_counts_balance_when_all_launchers_have_reported(rig: Rig) -> None:
    """Of five that were accepted, a launcher knows of two; of a service that is gone, one is missing."""
    rig.counters.row(1).add(ACCEPTED, 5)
    rig.counters.row(7).add(ACCEPTED)
    rig.launcher()
    rig.plan(settings("a"))
    for connection in (1, 2):
        rig.server.takeover.found(1, connection, tag("a"))
    rig.server.begin()
    assert rig.sessions("a").counts.failed == {}
    await rig.until(lambda: rig.named("loop_started"))
    assert rig.sessions("a").counts.failed == {LOOP_DIED: 3}
    assert rig.sessions("a").counts.open == rig.service("a").limits.live == 2
    lost = [(event["service"], event["count"]) for event in rig.named("connections_lost")]
    assert sorted(lost) == [("7", 1), ("a", 3)]
    assert rig.counters.read(7).open == 0
    rig.close()


async def test_a_session_that_comes_late_is_counted_as_accepted() -> None:
    async with serving(settings("a")) as rig:
        rig.server.takeover.found(1, 5, tag("a"))
        assert rig.sessions("a").counts.accepted == 1
        session = rig.sessions("a").by_number[5]
        session.start_failed(5)


@pytest.mark.parametrize(
    ("service", "connection", "name"),
    [(1, 5, "b"), (ROWS, 5, "x"), (1 << 31, 5, "x"), (1, 1 << 63, "a"), (1, 1, "a")],
)
async def test_what_no_loop_can_have_begun_is_refused(
    rig: Rig, service: int, connection: int, name: str
) -> None:
    rig.plan(settings("a"))
    rig.server.takeover.found(1, 1, tag("a"))
    with pytest.raises(WireError):
        rig.server.takeover.found(service, connection, tag(name))
    rig.close()


async def test_made_up_names_and_numbers_cost_the_service_nothing(rig: Rig) -> None:
    rig.server.takeover.found(9, 1, tag("a"))
    rig.server.takeover.found(1, 2, tag("b"))
    rig.server.takeover.found(1, 3, tag("a"))
    rig.plan(settings("a"))
    assert rig.server.services.by_number[1].number == 1
    assert rig.server.services.by_number[1].sessions.by_number.keys() == {3}
    rig.close()


async def test_a_loop_that_starts_in_the_same_second_gives_other_ids() -> None:
    """The first one's sessions have ended, so no launcher names them."""
    async with serving(settings("a"), now=NOW) as first, serving(settings("a"), now=NOW + 0.05) as second:
        given = {first.server.takeover.next_connection() for _ in range(10_000)}
        assert second.server.takeover.next_connection() not in given
        assert second.server.takeover.next_connection() > max(given)
