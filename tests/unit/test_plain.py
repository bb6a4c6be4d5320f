"""Dataclasses as JSON: read back as they were, also by another version where they are forgiving."""

import json
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans import PROFILES
from ucspid import plain
from ucspid.ipc import orders
from ucspid.profile import Profile
from ucspid.records import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Other:
    text: str


@dataclass(frozen=True, slots=True)
class Forgiving:
    FORGIVING: ClassVar = True

    name: str
    new: int = 7


@dataclass
class Whole:
    kind: Literal["a", "b"]
    part: Part
    maybe: Part | None
    parts: tuple[Part, ...]
    pairs: tuple[tuple[str, Part], ...]
    either: tuple[Part, ...] | Other | None
    by_name: dict[str, Part]
    rows: list[tuple[str, int]]
    anything: dict[str, Any]
    profile: Profile
    shared: Annotated[tuple[Part, ...], plain.SHARED] = ()


def again(value: Any) -> Any:
    return plain.read(type(value), json.loads(plain.to_json(value)))


parts = st.builds(Part, st.text(), st.lists(st.integers()).map(tuple))
wholes = st.builds(
    Whole,
    kind=st.sampled_from(["a", "b"]),
    part=parts,
    maybe=st.none() | parts,
    parts=st.lists(parts, max_size=3).map(tuple),
    pairs=st.lists(st.tuples(st.text(), parts), max_size=3).map(tuple),
    either=st.none() | st.lists(parts, max_size=3).map(tuple) | st.builds(Other, st.text()),
    by_name=st.dictionaries(st.text(), parts, max_size=3),
    rows=st.lists(st.tuples(st.text(), st.integers()), max_size=3),
    anything=st.dictionaries(st.text(), st.none() | st.booleans() | st.lists(st.integers()), max_size=3),
    profile=PROFILES,
    shared=st.lists(parts, max_size=2).map(tuple),
)


@given(wholes)
def test_what_is_written_is_read_back(value: Whole) -> None:
    assert again(value) == value
    assert "\n" not in plain.to_json(value)


def test_equal_values_of_a_shared_field_are_there_once() -> None:
    def shared() -> tuple[Part, ...]:
        value = Whole("a", Part(""), None, (), (), None, {}, [], {}, Profile(), (Part("x"),))
        read: Whole = again(value)
        return read.shared

    assert shared() is shared()


def test_only_the_forgiving_may_be_of_another_version() -> None:
    assert plain.read(Forgiving, {"name": "a", "from_the_future": 1}) == Forgiving("a")
    with pytest.raises(KeyError):
        plain.read(Part, {"name": "a", "from_the_future": 1})
    with pytest.raises(TypeError):
        plain.read(Forgiving, {})


ORDERS: list[orders.Order] = [
    orders.Begin(
        log_format="json", log_level="info", uid=1, gid=None, groups=(1, 2), nameservers=("192.0.2.1:53",),
        looks_up=True, asks_dns=True, asks_ident=False, owner=0, config="/file", began=1.5,
    ),
    orders.AddLauncher(number=1, pid=4, profile=2, kind="native", draining=False),
    orders.AddTls(number=1, pid=2),
    orders.RemoveTls(number=1),
    orders.AddPipe(service="a"),
    orders.AddListeners(numbers=(1, 2)),
    orders.AddLookers(),
    orders.TakePlan(generation=1, log_level="info"),
    orders.AllowVariables(path="/rules", kind="text", unusable="keep"),
    orders.TakeExpiries(),
    orders.RemoveLauncher(number=1),
    orders.Stop(at_once=True),
    orders.TakeHandover(),
    orders.HandOver(),
    orders.ReportCondition(),
    orders.LogEvent(level="info", event="x", fields={"a": [1]}),
    orders.Answer(token=1, result={"changes": []}),
    orders.TakeStage(stage="it reads the file"),
]  # fmt: skip


def test_every_order_is_read_back() -> None:
    assert [type(order) for order in ORDERS] == list(orders.NAMES.values())
    assert [orders.unpack(orders.pack(order)) for order in ORDERS] == ORDERS
