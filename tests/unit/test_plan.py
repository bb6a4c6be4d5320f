"""The plan: through JSON and back unchanged, addresses as people write them."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans import SERVICES, plan, service
from ucspid import plain
from ucspid.plan import Lookup, Plan, Proxy, Rate, Service
from ucspid.profile import Profile

plans = st.builds(type(plan()), services=st.lists(SERVICES, max_size=3).map(tuple))


@given(plans)
def test_a_plan_is_the_same_after_json(plan: Plan) -> None:
    again = Plan.from_json(plan.to_json().encode())
    assert repr(again) == repr(plan)  # not ==, for which NaN is never the same
    hash(again)


def test_a_plan_is_one_line_and_one_for_each_service() -> None:
    first, *services = plan(service("a", env=(("X", "a\nb\u2028"),)), service("b")).to_json().splitlines()
    assert json.loads(first)["services"] == []
    assert [json.loads(line)["name"] for line in services] == ["a", "b"]
    assert json.loads(services[0])["env"] == [["X", "a\nb\u2028"]]


def test_what_services_have_in_common_is_there_once() -> None:
    common = {
        "env": (("A", "B"),), "argv": ("x",), "lookup": Lookup(ident=True), "exempt": ("::1/128",),
        "rate": Rate(count=1, seconds=2.0, burst=3), "proxy": Proxy(from_=("::1",)), "stderr": "null",
    }  # fmt: skip
    a, b = Plan.from_json(plan(*(service(name, **common) for name in ("a", "b"))).to_json()).services
    shared = ("profile", "executable", "stderr_rate", "throttle", *common)
    assert [name for name in shared if getattr(a, name) is not getattr(b, name)] == []


def test_equal_values_of_other_types_are_not_shared() -> None:
    rates = (Rate(count=1, seconds=1.0, burst=1), Rate(count=1, seconds=1, burst=1))
    a, b = Plan.from_json(plan(*(service(str(rate), rate=rate) for rate in rates)).to_json()).services
    assert repr([a.rate, b.rate]) == repr([*rates])


@pytest.mark.slow
def test_a_service_of_many_takes_less_than_600_bytes_and_reading_it_no_more() -> None:
    text = plan(*(service(f"s{number}") for number in range(1000))).to_json().encode()
    Plan.from_json(text)  # what is made once
    tracemalloc.start()
    try:
        read = Plan.from_json(text)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now / len(read.services) < 600
    assert peak - now < 100_000


def test_a_service_is_the_same_after_json() -> None:
    before = service("a", rate=Rate(count=1, seconds=2.0, burst=3), exempt=("::1/128",))
    assert plain.read(Service, json.loads(plain.to_json(before))) == before


def test_profiles_differ_by_every_privilege() -> None:
    profile = service("a").profile
    others: dict[str, object] = {
        "uid": 7, "gid": 7, "groups": (7,), "umask": 7, "cwd": "/x", "root": "/y", "nice": 7,
        "rlimits": (("cpu", 7),), "no_new_privs": True,
    }  # fmt: skip
    assert set(others) == {name for name, _ in Profile.FIELDS}
    changed = {profile.changed(**{name: value}) for name, value in others.items()}
    assert len(changed | {profile}) == len(others) + 1
