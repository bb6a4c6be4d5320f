"""The plan: through JSON and back unchanged, addresses as people write them."""

import json

from hypothesis import given
from hypothesis import strategies as st

from plans import SERVICES, plan, service
from ucspid import plain
from ucspid.plan import Plan, Rate, Service
from ucspid.profile import Profile

plans = st.builds(Plan, services=st.lists(SERVICES, max_size=3).map(tuple))


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
    services = (service(name, env=(("A", "B"),)) for name in ("a", "b"))
    a, b = Plan.from_json(plan(*services).to_json()).services
    assert a.profile is b.profile
    assert a.env is b.env


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
