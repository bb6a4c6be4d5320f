"""Dataclasses as JSON: what crosses between processes that trust each other, and into the next version.

The annotations of a dataclass say what its fields are: dataclasses, Packed, tuples, lists and dicts of these,
and what JSON has itself. Values are not checked, since whoever writes them is trusted.
"""

import json
from collections.abc import Callable
from functools import cache, lru_cache, partial
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ucspid.codec import Packed
from ucspid.records import fields, is_dataclass

T = TypeVar("T")

Reader = Callable[[Any], Any]
"""Returns what a value of JSON stands for."""

SHARED = object()
"""In Annotated: equal values of a field are there once, however many objects have them."""

MAX_SHARED = 100
"""Values of one kind that are remembered, to be shared."""

_NUMBERS_SHARED = json.JSONDecoder(
    parse_int=lru_cache(MAX_SHARED)(int), parse_float=lru_cache(MAX_SHARED)(float)
)


def to_json(value: object) -> str:
    """Return a value, with dataclasses in it, as one line of JSON."""
    return json.dumps(value, default=_members, separators=(",", ":"))


def from_json(text: str) -> Any:
    """Return what read() takes; equal numbers in it, and in texts before it, are one object."""
    return _NUMBERS_SHARED.decode(text)


def _members(value: Any) -> dict[str, Any]:
    if isinstance(value, Packed):
        return vars(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}


def read(cls: type[T], data: Any) -> T:
    """Return the object that to_json() has written and from_json() has read.

    A dataclass with FORGIVING = True may be of another version: fields that it does not know are left out,
    and those that are missing have their default. Raises KeyError, TypeError or ValueError for what is
    otherwise of another form.
    """
    reader = _reader(cast("Any", cls))
    return cast("T", data if reader is None else reader(data))


@cache
def _reader(hint: Any) -> Reader | None:
    """Return what reads values of a type; None if they are what JSON has itself."""
    origin = get_origin(hint)
    if origin is not None:
        return _of_origin(origin, get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Packed):
        return hint.from_plain
    return partial(_make, hint, _fields(hint)) if is_dataclass(hint) else None


def _of_origin(origin: Any, arguments: tuple[Any, ...]) -> Reader | None:
    if origin is Annotated:
        inner = _reader(arguments[0])
        return _sharing(inner) if SHARED in arguments[1:] else inner
    if origin is Literal:
        return _the_same_of(arguments)
    if origin is tuple:
        return _of_tuple(arguments)
    if origin in (list, dict):
        return _of_items(origin, _reader(arguments[-1]))
    return _of_any(arguments) if origin in (Union, UnionType) else None


def _fields(cls: Any) -> dict[str, Reader | None]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: _reader(hints[field.name]) for field in fields(cls)}


def _make(cls: Any, readers: dict[str, Reader | None], data: dict[str, Any]) -> Any:
    values = {}
    for name, value in data.items():
        if name in readers or not getattr(cls, "FORGIVING", False):
            reader = readers[name]
            values[name] = value if reader is None else reader(value)
    return cls(**values)


def _of_tuple(arguments: tuple[Any, ...]) -> Reader:
    if arguments[-1] is ...:
        reader = _reader(arguments[0])
        return tuple if reader is None else lambda items: tuple(map(reader, items))
    readers = [_reader(argument) for argument in arguments]
    if not any(readers):
        return tuple
    return lambda items: tuple(
        item if reader is None else reader(item) for reader, item in zip(readers, items, strict=True)
    )


def _of_items(origin: Any, reader: Reader | None) -> Reader | None:
    if reader is None:
        return None
    if origin is list:
        return lambda items: list(map(reader, items))
    return lambda items: {name: reader(item) for name, item in items.items()}


def _of_any(arguments: tuple[Any, ...]) -> Reader | None:
    """Return what reads one of several types, which JSON distinguishes: a list, an object, or neither."""
    of_list = [_reader(item) for item in arguments if get_origin(item) in (tuple, list)]
    of_dict = [_reader(item) for item in arguments if is_dataclass(item) or get_origin(item) is dict]
    readers: dict[Any, Reader | None] = {
        list: next(iter(of_list), None),
        dict: next(iter(of_dict), None),
    }
    if not any(readers.values()):
        return None

    def reader(value: Any) -> Any:
        suits = readers.get(type(value))
        return value if suits is None else suits(value)

    return reader


def _the_same_of(words: tuple[Any, ...]) -> Reader:
    """Return what makes equal words one object; one that a later version has is taken as it is."""
    known = {word: word for word in words}
    return lambda word: known.get(word, word)


def _sharing(reader: Reader | None) -> Reader:
    known: dict[str, Any] = {}

    def shared(value: Any) -> Any:
        """Return what was made of the same JSON before: of equal values 1 may be another than 1.0."""
        text = repr(value)
        if text not in known:
            if len(known) == MAX_SHARED:
                known.clear()
            known[text] = value if reader is None else reader(value)
        return known[text]

    return shared
