"""What one loop hands over to the next: the same again, and nothing of what makes no sense."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprocess import Rig, received, settings
from naive_limits import SERVICE
from ucspid.admission.connection import Connection
from ucspid.admission.stage import Refused
from ucspid.ipc import messages as wire
from ucspid.ipc import session_tag
from ucspid.limits import Limits, ServiceLimits, Slot
from ucspid.plan import Rate, Throttling
from ucspid.policy.rate import TokenBucket, TokenBuckets
from ucspid.policy.refusal_summary import SINGLE, WINDOW, Refusals
from ucspid.policy.throttle import Throttle
from ucspid.records import replace
from ucspid.recovery import handover

RATE = Rate(count=3, seconds=10.0, burst=2)
CLIENTS = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:1::1"]

times = st.floats(0, 20, allow_subnormal=False)
steps = st.lists(st.tuples(st.sampled_from(CLIENTS), times), max_size=40)
garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)
"""Whatever JSON can say."""


def through_json(state: Any) -> Any:
    return json.loads(json.dumps(state, allow_nan=False))


@given(steps, steps)
def test_a_bucket_goes_on(before: list[tuple[str, float]], after: list[tuple[str, float]]) -> None:
    old, new, now = TokenBucket(RATE), TokenBucket(RATE), 0.0
    for _, gap in before:
        now += gap
        old.take(now)
    new.from_state(through_json(old.to_state()), now)
    for _, gap in after:
        now += gap
        assert new.take(now) == old.take(now)


@given(steps, steps)
def test_buckets_of_clients_go_on(before: list[tuple[str, float]], after: list[tuple[str, float]]) -> None:
    old, new, now = TokenBuckets(RATE, 100), TokenBuckets(RATE, 100), 0.0
    for client, gap in before:
        now += gap
        old.take(client, now)
    new.from_state(dict(through_json(old.to_state(now))), now)
    for client, gap in after:
        now += gap
        assert new.take(client, now) == old.take(client, now)


def limits(**changes: Any) -> ServiceLimits:
    usual: dict[str, Any] = {"rate": RATE, "rate_per_ip": RATE, "on_full": "refuse"}
    return ServiceLimits(Limits(1000), replace(SERVICE, **(usual | changes)))


@given(steps, steps)
def test_limits_go_on(before: list[tuple[str, float]], after: list[tuple[str, float]]) -> None:
    old, new, now = limits(), limits(), 100.0
    for client, gap in before:
        now += gap
        slot = old.admit(client, now)
        if isinstance(slot, Slot):
            old.release(slot)
    new.rates.from_state(through_json(old.rates.to_state(now)), now)
    for client, gap in after:
        now += gap
        ours, theirs = new.admit(client, now), old.admit(client, now)
        assert isinstance(ours, Slot) == isinstance(theirs, Slot)
        if not isinstance(ours, Slot):
            assert ours == theirs


OTHER = Rate(count=3, seconds=10.0, burst=3)


@pytest.mark.parametrize("changes", [{"rate": OTHER}, {"rate": None}])
def test_a_rate_of_the_service_that_changed_begins_anew(changes: dict[str, Any]) -> None:
    old, new = limits(rate_per_ip=None), limits(rate_per_ip=None, **changes)
    old.admit("192.0.2.1", 1.0)
    old.admit("192.0.2.1", 1.0)
    new.rates.from_state(through_json(old.rates.to_state(1.0)), 1.0)
    assert isinstance(old.admit("192.0.2.1", 1.0), str)
    assert isinstance(new.admit("192.0.2.1", 1.0), Slot)


@pytest.mark.parametrize("changes", [{"rate_per_ip": OTHER}, {"rate_per_ip": None}, {"ipv4_prefix": 24}])
def test_rates_of_clients_that_changed_begin_anew(changes: dict[str, Any]) -> None:
    old, new = limits(rate=None), limits(rate=None, **changes)
    old.admit("192.0.2.1", 1.0)
    old.admit("192.0.2.1", 1.0)
    new.rates.from_state(through_json(old.rates.to_state(1.0)), 1.0)
    assert isinstance(old.admit("192.0.2.1", 1.0), str)
    assert isinstance(new.admit("192.0.2.1", 1.0), Slot)


events = st.lists(st.tuples(st.sampled_from(["bad", "good", "start", "started"]), times), max_size=40)


def happen(throttle: Throttle, event: str, now: float) -> Any:
    if event == "bad":
        return throttle.failed(now)
    if event == "good":
        return throttle.ended(now)
    return throttle.starting(now) if event == "start" else throttle.started(now)


@given(events, events)
def test_a_throttle_goes_on(before: list[tuple[str, float]], after: list[tuple[str, float]]) -> None:
    old, new, now = Throttle(Throttling()), Throttle(Throttling()), 0.0
    for event, gap in before:
        now += gap / 10
        happen(old, event, now)
    new.from_state(through_json(old.to_state()), now)
    for event, gap in after:
        now += gap / 10
        assert happen(new, event, now) == happen(old, event, now)
        assert new.wait(now) == old.wait(now)


def test_a_window_of_refusals_goes_on() -> None:
    old, new = Refusals(), Refusals()
    assert all(old.note("full", 1.0) for _ in range(SINGLE))
    new.from_state(through_json(old.to_state()), 2.0)
    assert not new.note("full", 2.0)
    assert new.ends == 1.0 + WINDOW


@given(garbage)
def test_garbage_is_refused_or_does_no_harm(state: Any) -> None:
    now = 1000.0
    bucket, throttle, refusals, all_limits = TokenBucket(RATE), Throttle(Throttling()), Refusals(), limits()
    for take_up in (bucket.from_state, throttle.from_state, refusals.from_state, all_limits.rates.from_state):
        try:
            take_up(state, now)
        except ValueError:
            continue
    assert bucket.wait(now) <= RATE.seconds
    assert throttle.wait(now) <= Throttling().interval
    assert refusals.ends <= now + WINDOW
    assert isinstance(all_limits.admit("192.0.2.1", now + 100), Slot)


@given(garbage)
def test_garbage_in_the_place_of_one_value_is_refused_or_does_no_harm(value: Any) -> None:
    now = 1000.0
    for state in (
        {**limits().rates.to_state(now), "full_at": value},
        {**limits().rates.to_state(now), "clients": value},
        {**limits().rates.to_state(now), "clients": [[[3, 10.0, 2], value]]},
        {**limits().rates.to_state(now), "clients": [[[3, 10.0, 2], [["192.0.2.1", value]]]]},
        {**limits().rates.to_state(now), "clients": [[[3, 10.0, 2], [[value, now]]]]},
    ):
        taking = limits()
        try:
            taking.rates.from_state(state, now)
        except ValueError:
            assert isinstance(taking.admit("192.0.2.1", now), Slot)
        else:
            assert isinstance(taking.admit("192.0.2.1", now + 100), Slot)


# The memory


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("handover")
    os.ftruncate(descriptor, 1 << 20)
    yield descriptor
    os.close(descriptor)


def test_nothing_written_is_nothing_handed_over(memory: int) -> None:
    assert handover.read(memory) == (0, {})


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(content: bytes) -> None:
    descriptor = os.memfd_create("handover")
    os.ftruncate(descriptor, 1 << 20)
    try:
        os.pwrite(descriptor, content, 0)
        handover.read(descriptor)
    except ValueError:
        pass
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"1", b"{}", b'{"connection":-1}', b'{"connection":1}\n7']
)
def test_what_no_loop_writes_is_refused(memory: int, content: bytes) -> None:
    os.pwrite(memory, content, 0)
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the parser's own
        handover.read(memory)


LIMITED = settings("a", rate_per_ip=Rate(count=1, seconds=3600.0, burst=2))


async def test_one_loop_goes_on_where_another_has_left(memory: int) -> None:
    first, second = Rig(), Rig()
    try:
        first.launcher()
        first.plan(LIMITED, settings("b"))
        first.server.begin()
        first.connect("a")
        first.connect("a")
        last = max(await first.starts(2))
        first.launchers[0].failed(last)
        await first.until(lambda: first.named("connection_failed"))
        await first.server.hand_over(memory)
        waiting = first.connect("a")
        second.server.inherit(memory)
        second.launcher()
        second.plan(LIMITED)
        second.server.begin()
        assert await received(second.connect("a")) == b""
        assert second.named("connection_refused")[0]["reason"] == "rate_per_ip"
        second.connect("a", source="127.0.0.2")
        (connection,) = await second.starts(1)
        assert connection > last
        assert waiting.fileno() >= 0
        assert second.sessions("a").counts.accepted == 4, "two of the first's, two of the second's"
        ((kind, failure),) = second.service("a").sessions.failures.items()
        assert (kind, failure.connection) == ("failed", last)
    finally:
        first.close()
        second.close()


async def test_sessions_that_are_found_before_the_plan_lose_no_state(memory: int) -> None:
    first, second = Rig(), Rig()
    try:
        first.launcher()
        first.plan(LIMITED)
        first.server.begin()
        first.connect("a")
        first.connect("a")
        await first.starts(2)
        await first.server.hand_over(memory)
        second.server.inherit(memory)
        launcher = second.launcher()
        tag = session_tag.pack(time.monotonic(), "127.0.0.1", 1, "a")
        launcher._channel.send(wire.Report.head(wire.RUNNING, 0, 77, 1, 1 << 30, 0, 0, 0, tag))
        await second.until(lambda: list(second.server.services.all_sessions()))
        second.plan(LIMITED)
        second.server.begin()
        assert await received(second.connect("a")) == b""
    finally:
        first.close()
        second.close()


async def test_a_loop_that_hands_over_writes_what_there_is_room_for() -> None:
    descriptor = os.memfd_create("handover")
    os.ftruncate(descriptor, 400)
    rig = Rig()
    try:
        rig.launcher()
        rig.plan(*(settings(f"s{number}") for number in range(10)))
        await rig.server.hand_over(descriptor)
        connection, states = handover.read(descriptor)
        assert connection == rig.server.takeover.last_connection
        assert 0 < len(states) < 10
        assert os.fstat(descriptor).st_size == 400
    finally:
        os.close(descriptor)
        rig.close()


async def test_a_service_whose_state_makes_no_sense_begins_anew(memory: int) -> None:
    rig = Rig()
    try:
        state = {"rates": 1, "throttle": 2, "refusals": 3, "failures": 4}
        text = [{"connection": 1 << 63}, {"service": "a", "state": state}, {"service": "gone", "state": 4}]
        os.pwrite(memory, b"\n".join(json.dumps(line).encode() for line in text), 0)
        rig.server.inherit(memory)
        rig.launcher()
        rig.plan(LIMITED)
        rig.server.begin()
        rig.connect("a")
        (connection,) = await rig.starts(1)
        assert connection >> 30 <= time.time() + 90_000
        assert [event["service"] for event in rig.named("handover_refused")] == ["a"]
    finally:
        rig.close()


async def test_a_loop_that_left_hears_launchers_no_more(memory: int) -> None:
    rig = Rig()
    try:
        rig.launcher()
        rig.plan(LIMITED)
        await rig.server.hand_over(memory)
        (launcher,) = rig.server.launchers.by_number.values()
        assert not asyncio.get_running_loop().remove_reader(launcher.fileno())
    finally:
        rig.close()


def asked_twice(rig: Rig) -> bool:
    """Return whether a launcher was asked what it runs as one that is new, and as one that has said so."""
    return len(rig.launchers[0].tokens) == 2


async def test_no_answer_of_a_launcher_is_taken_for_one_to_another_loop() -> None:
    first, second = Rig(), Rig()
    try:
        for rig in (first, second):
            rig.launcher()
            await rig.until(partial(asked_twice, rig))
        tokens = [token for rig in (first, second) for token in rig.launchers[0].tokens]
        assert len(set(tokens)) == 4
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize("grace", [10.0, 0.0])
async def test_clients_on_their_way_in_have_a_moment(grace: float) -> None:
    client, accepted = socket.socketpair()
    found, entered = asyncio.Event(), asyncio.Event()
    rig = Rig()
    try:
        rig.launcher()
        rig.plan(settings("a"))
        service = rig.service("a")
        connection = Connection(service.sessions, "192.0.2.1", 1, time.monotonic())
        connection.descriptor = accepted.detach()
        connection.deadline = connection.began + 10.0

        async def looked_up() -> Refused | None:
            await found.wait()
            entered.set()
            return Refused("denied")

        service.pipeline._wait(connection, looked_up(), ())
        draining = asyncio.create_task(service.drain(grace))
        if grace:
            asyncio.get_running_loop().call_soon(found.set)
        await draining
        assert entered.is_set() == bool(grace)
        assert service.sessions.counts.refused == ({"denied": 1} if grace else {"closed": 1})
        assert client.recv(1) == b""
    finally:
        client.close()
        rig.close()
