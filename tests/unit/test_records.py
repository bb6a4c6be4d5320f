"""Dataclasses are what those of the standard library are, as far as they are used; and cost less."""

import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import pytest

from ucspid import records


def classes(module: ModuleType, **options: bool) -> tuple[Any, Any]:
    """Return two classes that are made alike, of which the second has the first as its base."""

    @module.dataclass(**options)
    class Base:
        KIND: ClassVar = 1
        OTHER: ClassVar[int] = 2

        a: int
        b: str = "b"

        @property
        def twice(self) -> int:
            return 2 * self.a

    @module.dataclass(**options)
    class Derived(Base):
        c: list[int] = module.field(default_factory=list)
        b: str = "other"

    return Base, Derived


def outcome(act: Callable[[], object]) -> object:
    """Return what a call returns, or that it fails: the standard library's have more kinds of errors."""
    try:
        return act()
    except (AttributeError, TypeError):
        return "fails"


def matched(value: Any, cls: Any) -> object:
    match value:
        case cls(a, b):
            return a, b
        case _:
            return None


def seen(module: ModuleType, options: dict[str, bool]) -> list[object]:
    """Return all that can be seen of classes that a module makes with some options."""
    base, derived = classes(module, **options)
    one, same, other = base(a=1), base(a=1, b="b"), base(a=1, b="x")
    longer = derived(a=1)
    return [
        repr(one).replace(module.__name__, ""),
        repr(longer),
        one == same,
        one == other,
        one == longer,
        one != 1,
        outcome(lambda: hash(one) == hash(same)),
        outcome(lambda: len({one, same, other})),
        outcome(lambda: base(1, "x").b),
        outcome(base),
        outcome(lambda: base(a=1, d=2)),
        outcome(lambda: base(1, 2, 3)),
        outcome(lambda: setattr(one, "a", 5)),
        one.a,
        outcome(lambda: setattr(one, "new", 5)),
        outcome(lambda: delattr(one, "a")),
        outcome(lambda: one.a),
        longer.b,
        longer.c,
        derived(a=1).c is longer.c,
        derived(a=1, c=[7]).c,
        longer.twice,
        base.KIND,
        base.OTHER,
        [item.name for item in module.fields(derived)],
        [item.default for item in module.fields(base)][1:],
        module.is_dataclass(base),
        module.is_dataclass(one),
        module.is_dataclass(int),
        module.replace(longer, a=3).a,
        module.replace(longer, a=3).c is longer.c,
        outcome(lambda: matched(same, base)),
        hasattr(same, "__dict__"),
        base.__match_args__,

        base.__qualname__,
        base.__module__,
        getattr(base, "b", None),
        outcome(lambda: derived(1, "x", [2]).c),
    ]  # fmt: skip


@pytest.mark.parametrize("given", [*itertools.product([False, True], repeat=4)], ids=str)
def test_they_are_as_those_of_the_standard_library(given: tuple[bool, ...]) -> None:
    options = dict(zip(("frozen", "slots", "kw_only", "eq"), given, strict=True))
    theirs, ours = (seen(module, options) for module in (dataclasses, records))
    assert [str(item) for item in ours] == [str(item) for item in theirs]


def test_what_a_class_defines_itself_is_kept() -> None:
    @records.dataclass(frozen=True, slots=True)
    class Own:
        a: int

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "me"

    assert (Own(1) == 5, hash(Own(1)), repr(Own(1))) == (True, 7, "me")


def test_a_class_without_fields_has_equal_objects() -> None:
    @records.dataclass(frozen=True)
    class Empty:
        pass

    assert Empty() == Empty()
    assert hash(Empty()) == hash(Empty())


def test_a_field_may_be_left_out_of_what_is_given() -> None:
    @records.dataclass(kw_only=True)
    class Partly:
        a: int
        b: list[int] = records.field(init=False)

    assert Partly(a=1).a == 1
    assert not hasattr(Partly(a=1), "b")


def test_what_inherits_without_being_one_is_made_by_its_base() -> None:
    @records.dataclass
    class Base:
        a: int

    class Plain(Base):
        pass

    assert Plain(1).a == 1
    assert Base(2).a == 2


def test_the_first_object_says_what_is_wrong_as_any_other() -> None:
    @records.dataclass(slots=True, kw_only=True)
    class Named:
        a: int

    for _ in range(2):
        with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword argument 'b'"):
            Named(a=1, b=2)  # type: ignore[call-arg]


@pytest.mark.parametrize("module", ["ucspid.master.start", "ucspid.tls.main", "ucspid.journal_relay"])
def test_a_process_without_others_packages_imports_nothing_that_generates_code(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'dataclasses', 'inspect', 'ast'}} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-I", "-c", code]) == b"\n"
