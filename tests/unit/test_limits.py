from collections import Counter
from math import inf
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from naive_limits import SERVICE, Naive
from tracing import lines_run
from ucspid.limits import MAX_LOOKUPS, ClientLimits, Limits, Refusal, ServiceLimits, Slot
from ucspid.net.unix import UnixClient
from ucspid.plan import Rate
from ucspid.policy.service_rates import MAX_CLIENTS
from ucspid.records import replace

A, B = "192.0.2.1", "198.51.100.1"
PER_SECOND = Rate(count=1, seconds=1.0, burst=2)


def service(daemon: Limits | None = None, **changes: Any) -> ServiceLimits:
    return ServiceLimits(daemon or Limits(1000), replace(SERVICE, **changes))


def admitted(limits: ServiceLimits, ip: str = A, now: float = 0.0) -> Slot:
    slot = limits.admit(ip, now)
    assert isinstance(slot, Slot)
    return slot


@pytest.mark.parametrize("on_full", ["queue", "refuse"])
def test_a_full_service_admits_nobody_until_a_slot_is_released(on_full: str) -> None:
    limits = service(max_connections=2, on_full=on_full)
    first, _ = admitted(limits), admitted(limits)
    assert limits.admit(B, 0.0) is Refusal.FULL
    assert limits.room(0.0) == (inf if on_full == "queue" else 0.0)
    limits.release(first)
    assert limits.room(0.0) == 0.0
    admitted(limits)
    assert limits.live == 2


@pytest.mark.parametrize("on_full", ["queue", "refuse"])
def test_a_full_daemon_delays_every_service(on_full: str) -> None:
    daemon = Limits(1)
    smtp, pop3 = service(daemon, on_full=on_full), service(daemon, on_full=on_full)
    slot = admitted(smtp)
    assert pop3.room(0.0) == inf
    assert pop3.admit(A, 0.0) is Refusal.FULL
    smtp.release(slot)
    assert pop3.room(0.0) == 0.0
    assert daemon.live == 0


def test_the_size_of_the_daemon_may_change() -> None:
    daemon = Limits(2)
    limits = service(daemon)
    slots = [admitted(limits), admitted(limits)]
    daemon.max_connections = 1
    limits.release(slots.pop())
    assert daemon.full
    assert limits.admit(A, 0.0) is Refusal.FULL
    daemon.max_connections = 2
    admitted(limits)


def test_a_client_over_its_limit_hurts_nobody_else() -> None:
    limits = service(max_per_ip=1)
    slot = admitted(limits, A)
    assert limits.admit(A, 0.0) is Refusal.PER_IP
    assert limits.admit(f"::ffff:{A}", 0.0) is Refusal.PER_IP
    admitted(limits, B)
    limits.release(slot)
    admitted(limits, A)


def test_ipv6_clients_count_by_their_prefix() -> None:
    limits = service(max_per_ip=1)
    admitted(limits, "2001:db8:0:1::1")
    assert limits.admit("2001:db8:0:1:ffff::2", 0.0) is Refusal.PER_IP
    admitted(limits, "2001:db8:0:2::1")


def test_a_client_over_its_rate_is_let_in_when_its_bucket_allows_however_often_it_knocks() -> None:
    limits = service(rate_per_ip=PER_SECOND)
    admitted(limits, A, 0.0)
    admitted(limits, A, 0.0)
    for eighth in range(8):
        assert limits.admit(A, eighth / 8) is Refusal.RATE_PER_IP
    admitted(limits, B, 0.5)
    admitted(limits, A, 1.0)


def test_the_rate_of_a_service_delays_or_refuses() -> None:
    queueing, refusing = service(rate=PER_SECOND), service(rate=PER_SECOND, on_full="refuse")
    for limits in (queueing, refusing):
        assert limits.room(0.0) == 0.0
        admitted(limits, A, 0.0)
        admitted(limits, B, 0.0)
        assert limits.admit(A, 0.25) is Refusal.RATE
    assert queueing.room(0.25) == 0.75
    assert refusing.room(0.25) == 0.0
    admitted(queueing, A, 1.0)


def test_refused_clients_do_not_use_up_the_rate_of_the_service() -> None:
    limits = service(rate=PER_SECOND, max_per_ip=1)
    admitted(limits, A)
    assert all(limits.admit(A, 0.0) is Refusal.PER_IP for _ in range(10))
    admitted(limits, B)
    limits = service(rate=Rate(count=1, seconds=1.0, burst=3), rate_per_ip=PER_SECOND)
    admitted(limits, A)
    admitted(limits, A)
    assert all(limits.admit(A, 0.0) is Refusal.RATE_PER_IP for _ in range(10))
    admitted(limits, B)


def test_a_connection_refused_by_the_service_costs_its_client_no_token() -> None:
    limits = service(
        rate=Rate(count=1, seconds=1.0, burst=1), rate_per_ip=Rate(count=1, seconds=60.0, burst=1)
    )
    admitted(limits, A, 0.0)
    assert all(limits.admit(B, 0.5) is Refusal.RATE for _ in range(10))
    admitted(limits, B, 1.0)


def test_the_reason_is_the_clients_own_before_it_is_the_services() -> None:
    limits = service(rate=PER_SECOND, rate_per_ip=PER_SECOND, max_per_ip=2)
    slot = admitted(limits)
    admitted(limits)
    assert limits.admit(A, 0.0) is Refusal.PER_IP
    limits.release(slot)
    assert limits.admit(A, 0.0) is Refusal.RATE_PER_IP
    assert limits.admit(B, 0.0) is Refusal.RATE


def test_numbers_that_are_wrong_are_reported() -> None:
    limits = service(max_per_ip=5)
    assert isinstance(limits.admit(A, 0.0, session=False), Slot)
    slot = admitted(limits)
    assert limits.differences() == []
    limits._sessions = 2
    limits._clients = {A: 3, B: 1}
    assert sorted(limits.differences()) == [
        f"counts 1 connections of {B!r} where 0 hold slots",
        "counts 2 sessions where 1 hold slots",
        f"counts 3 connections of {A!r} where 2 hold slots",
    ]
    limits._sessions = 1
    limits._clients = {A: 2}
    del limits._slots[slot]
    assert len(limits.differences()) == 2


def test_exempt_clients_have_no_limits_of_their_own_but_those_of_the_service() -> None:
    limits = service(
        max_connections=3, max_per_ip=1, rate_per_ip=PER_SECOND, exempt=("192.0.2.0/24",), ipv4_prefix=16
    )
    slots = [admitted(limits, A) for _ in range(3)]
    assert limits.admit(A, 0.0) is Refusal.FULL
    limits.release(slots.pop())
    admitted(limits, "192.0.3.1")


def test_a_restored_session_counts_above_the_limits_and_takes_no_token() -> None:
    limits = service(max_connections=2, max_per_ip=1, rate_per_ip=PER_SECOND, rate=PER_SECOND)
    restored = [limits.restore(A) for _ in range(3)]
    assert limits.live == 3
    assert limits.admit(B, 0.0) is Refusal.FULL
    limits.release(restored.pop())
    limits.release(restored.pop())
    assert limits.admit(A, 0.0) is Refusal.PER_IP
    limits.release(restored.pop())
    limits.release(admitted(limits))
    limits.release(admitted(limits))


def test_a_doubled_or_foreign_release_is_an_error_and_changes_nothing() -> None:
    daemon = Limits(10)
    smtp, pop3 = service(daemon), service(daemon)
    slot, other = admitted(smtp), admitted(pop3)
    smtp.release(slot)
    for wrong in (slot, other, Slot(A, A, session=True)):
        with pytest.raises(KeyError):
            smtp.release(wrong)
    assert (daemon.live, smtp.live, pop3.live) == (1, 0, 1)


def test_what_is_no_address_takes_nothing() -> None:
    limits = service(exempt=("10.0.0.0/8",))
    for take in (limits.restore, lambda ip: limits.admit(ip, 0.0)):
        with pytest.raises(ValueError, match="not an IP address"):
            take("localhost")
    assert limits.live == 0


def test_new_prefixes_regroup_the_sessions_that_live() -> None:
    limits = service(max_per_ip=2)
    slots = [admitted(limits, "192.0.2.1"), admitted(limits, "192.0.2.2"), admitted(limits, "192.0.3.1")]
    limits.change(replace(SERVICE, max_per_ip=2, ipv4_prefix=24))
    assert limits.admit("192.0.2.3", 0.0) is Refusal.PER_IP
    admitted(limits, "192.0.3.2")
    limits.release(slots[0])
    slots[0] = admitted(limits, "192.0.2.4")
    limits.change(replace(SERVICE, max_per_ip=1))
    for slot in slots:
        limits.release(slot)
    assert limits.live == 1


def test_new_exempt_networks_count_for_the_sessions_that_live() -> None:
    limits = service(max_per_ip=1, exempt=("192.0.2.0/24",))
    admitted(limits, A)
    admitted(limits, B)
    limits.change(replace(SERVICE, max_per_ip=1, exempt=("198.51.100.0/24",)))
    assert limits.admit(A, 0.0) is Refusal.PER_IP
    admitted(limits, B)


def test_rates_that_stay_the_same_keep_their_buckets() -> None:
    both = replace(SERVICE, rate=PER_SECOND, rate_per_ip=PER_SECOND)
    limits = ServiceLimits(Limits(10), both)
    admitted(limits)
    admitted(limits)
    limits.change(replace(both, max_connections=7))
    assert limits.admit(A, 0.0) is Refusal.RATE_PER_IP
    limits.change(replace(both, rate_per_ip=None))
    assert limits.admit(A, 0.0) is Refusal.RATE
    limits.change(replace(both, rate=None))
    admitted(limits)
    admitted(limits)
    assert limits.admit(A, 0.0) is Refusal.RATE_PER_IP
    limits.change(replace(both, rate=None, ipv6_prefix=48))
    admitted(limits)


def test_a_flood_of_distinct_addresses_is_remembered_in_bounded_memory() -> None:
    limits = service(rate_per_ip=Rate(count=1, seconds=1e6, burst=1), max_per_ip=1)
    for number in range(MAX_CLIENTS + 500):
        limits.release(admitted(limits, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    (buckets,) = limits.rates._clients.values()
    assert len(buckets) == MAX_CLIENTS
    assert not limits._clients
    assert not limits._slots


def test_no_call_costs_more_when_more_sessions_live() -> None:
    limits = service(Limits(10_000), max_connections=10_000, max_per_ip=9_000, rate_per_ip=PER_SECOND)
    now = 0.0

    def connection() -> None:
        nonlocal now
        now += 10.0
        assert limits.room(now) == 0.0
        limits.release(admitted(limits, B, now))

    connection()
    alone = lines_run(connection)
    for number in range(5_000):
        limits.restore(A if number % 2 else f"10.0.{number >> 8}.{number & 255}")
    assert lines_run(connection) == alone


def test_a_rule_sets_a_clients_limits_in_place_of_the_services() -> None:
    limits = service(max_per_ip=1)
    more = ClientLimits(2, None)
    admitted(limits, A)
    assert limits.admit(A, 0.0) is Refusal.PER_IP
    assert isinstance(limits.admit(A, 0.0, more), Slot)
    assert limits.admit(A, 0.0, more) is Refusal.PER_IP


def test_each_rate_of_a_rule_has_buckets_of_its_own() -> None:
    limits = service()
    slow = ClientLimits(None, Rate(count=1, seconds=100.0, burst=1))
    assert isinstance(limits.admit(A, 0.0, slow), Slot)
    assert limits.admit(A, 0.0, slow) is Refusal.RATE_PER_IP
    assert isinstance(limits.admit(A, 0.0), Slot)
    assert isinstance(limits.admit(B, 0.0, slow), Slot)


def test_limits_known_only_later_are_checked_with_the_connection_counted() -> None:
    limits = service()
    first, second = (limits.admit(A, 0.0, session=False) for _ in range(2))
    assert isinstance(first, Slot)
    assert isinstance(second, Slot)
    assert limits.check(second, ClientLimits(1, None), 0.0) is Refusal.PER_IP
    limits.release(second)
    rate = ClientLimits(1, Rate(count=1, seconds=100.0, burst=1))
    assert limits.check(first, rate, 0.0) is None
    assert limits.check(first, rate, 0.0) is Refusal.RATE_PER_IP


def test_connections_being_looked_up_take_no_sessions_slot_but_are_bounded() -> None:
    limits = service(max_connections=1)
    slots = [limits.admit(A, 0.0, session=False) for _ in range(MAX_LOOKUPS - 1)]
    assert limits.room(0.0) == 0.0
    last = limits.admit(A, 0.0, session=False)
    assert limits.room(0.0) == inf
    assert isinstance(last, Slot)
    limits.release(last)
    assert limits.room(0.0) == 0.0
    first, second, *_ = slots
    assert isinstance(first, Slot)
    assert isinstance(second, Slot)
    assert limits.begin(first)
    assert not limits.begin(second)
    assert limits.room(0.0) == inf


def test_limits_known_only_later_do_not_hold_for_exempt_clients() -> None:
    limits = service(exempt=(f"{A}/32",))
    slot = limits.admit(A, 0.0, session=False)
    assert isinstance(slot, Slot)
    assert limits.check(slot, ClientLimits(0, None), 0.0) is None


# Powers of two, so that neither side rounds and the two can be compared exactly.
rates = st.none() | st.builds(
    Rate, count=st.sampled_from([1, 2]), seconds=st.sampled_from([1.0, 8.0]), burst=st.integers(1, 3)
)
networks = ["192.0.2.0/24", "2001:db8::/32", "192.0.2.1/32", "::/0"]
changes = st.fixed_dictionaries(
    {},
    optional={
        "max_connections": st.integers(0, 6),
        "on_full": st.sampled_from(["queue", "refuse"]),
        "max_per_ip": st.none() | st.integers(0, 3),
        "ipv4_prefix": st.sampled_from([0, 16, 24, 32]),
        "ipv6_prefix": st.sampled_from([0, 48, 64, 128]),
        "rate_per_ip": rates,
        "rate": rates,
        "exempt": st.lists(st.sampled_from(networks), max_size=2).map(tuple),
    },
)
addresses = st.sampled_from(
    [
        A,
        f"::ffff:{A}",
        "192.0.2.2",
        "192.0.3.1",
        B,
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:1::1",
        "fe80::1%eth0",
    ]
)
which = st.integers(0, 1)


class TwoServices(RuleBasedStateMachine):
    @initialize(size=st.integers(0, 8), settings=st.tuples(changes, changes))
    def start(self, size: int, settings: tuple[dict[str, Any], dict[str, Any]]) -> None:
        self.now = 0.0
        self.daemon = Limits(size)
        plans = [replace(SERVICE, **change) for change in settings]
        self.real = [ServiceLimits(self.daemon, plan) for plan in plans]
        self.naive = [Naive(plan) for plan in plans]

    @property
    def daemon_full(self) -> bool:
        return sum(len(naive.sessions) for naive in self.naive) >= self.daemon.max_connections

    @rule(gap=st.integers(1, 32))
    def time_passes(self, gap: int) -> None:
        self.now += gap / 8

    @rule(which=which, ip=addresses, session=st.booleans())
    def connect(self, which: int, ip: str, session: bool) -> None:
        naive = self.naive[which]
        full = session and naive.full(daemon_full=self.daemon_full)
        expected = naive.refusal(ip, self.now, full=full)
        result = self.real[which].admit(ip, self.now, session=session)
        if not isinstance(result, Slot):
            assert result is expected
            return
        assert expected is None
        naive.take_tokens(ip)
        (naive.sessions if session else naive.waiting).append((result, ip))

    @precondition(lambda self: any(naive.waiting for naive in self.naive))
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        waiting = [(which, item) for which in (0, 1) for item in self.naive[which].waiting]
        which, item = data.draw(st.sampled_from(waiting))
        naive = self.naive[which]
        full = naive.full(daemon_full=self.daemon_full)
        assert self.real[which].begin(item[0]) is not full
        if not full:
            naive.waiting.remove(item)
            naive.sessions.append(item)

    @rule(which=which, ip=addresses)
    def restore(self, which: int, ip: str) -> None:
        self.naive[which].sessions.append((self.real[which].restore(ip), ip))

    @precondition(lambda self: any(naive.sessions or naive.waiting for naive in self.naive))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        held = [
            (which, item)
            for which in (0, 1)
            for item in self.naive[which].sessions + self.naive[which].waiting
        ]
        which, session = data.draw(st.sampled_from(held))
        self.real[which].release(session[0])
        naive = self.naive[which]
        (naive.sessions if session in naive.sessions else naive.waiting).remove(session)
        for limits in self.real:
            with pytest.raises(KeyError):
                limits.release(session[0])

    @rule(which=which, change=changes)
    def reload(self, which: int, change: dict[str, Any]) -> None:
        settings = replace(self.naive[which].settings, **change)
        self.real[which].change(settings)
        self.naive[which].change(settings)

    @rule(size=st.integers(0, 8))
    def resize(self, size: int) -> None:
        self.daemon.max_connections = size

    @invariant()
    def counts_are_right(self) -> None:
        assert self.daemon.live == sum(len(naive.sessions) for naive in self.naive)
        assert self.daemon.full == self.daemon_full
        for real, naive in zip(self.real, self.naive, strict=True):
            assert real.live == len(naive.sessions) + len(naive.waiting)
            assert real.sessions == len(naive.sessions)
            assert real.differences() == []
            assert real.full == naive.full(daemon_full=self.daemon_full)
            assert real.room(self.now) == naive.room(self.now, daemon_full=self.daemon_full)
            counts = Counter(naive.clients())
            del counts[None]
            assert sorted(real._clients.values()) == sorted(counts.values())

    def teardown(self) -> None:
        for real, naive in zip(self.real, self.naive, strict=True):
            for slot, _ in naive.sessions + naive.waiting:
                real.release(slot)
            assert not real._clients
        assert self.daemon.live == 0


TwoServices.TestCase.settings = hypothesis_settings(stateful_step_count=40, deadline=None)
TestTwoServices = TwoServices.TestCase


def test_over_unix_sockets_the_limits_of_a_client_are_those_of_a_user() -> None:
    limits = service(max_per_ip=1, rate_per_ip=PER_SECOND, exempt=("0.0.0.0/0", "::/0"), ipv4_prefix=8)
    first = admitted(limits, UnixClient.of(7, 1, 10))
    assert limits.admit(UnixClient.of(7, 2, 11), 0.0) is Refusal.PER_IP
    admitted(limits, UnixClient.of(8, 1, 12))
    limits.release(first)
    limits.release(admitted(limits, UnixClient.of(7, 3, 13)))
    assert limits.admit(UnixClient.of(7, 3, 14), 0.0) is Refusal.RATE_PER_IP
    following = service(rate_per_ip=PER_SECOND, ipv4_prefix=8)
    following.rates.from_state(limits.rates.to_state(0.0), 0.0)
    assert following.admit(UnixClient.of(7, 1, 15), 0.0) is Refusal.RATE_PER_IP
    admitted(following, UnixClient.of(8, 1, 16))
