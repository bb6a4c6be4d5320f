"""Dataclasses that cost next to nothing to define: a process of the daemon defines sixty at its start.

Those of the standard library are six functions each, generated as text and compiled one by one, and their
module imports inspect: together that was a third of the start of each process. Here the functions are
written once for all classes, and __init__ is compiled when the first object of a class is made. To mypy
they are those of the standard library, of which only what is used is here.
"""

import itertools
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

__all__ = ["MISSING", "dataclass", "field", "fields", "is_dataclass", "replace"]

_MISSING = object()
_FIELDS = "__fields__"
_VALUES = "__values__"


class _RecordField:
    """A field: what stands for it where it is not given, and whether it may be."""

    __slots__ = ("default", "default_factory", "init", "kw_only", "name")

    def __init__(self, default: object, factory: object, *, init: bool) -> None:
        self.name = ""
        self.default = default
        self.default_factory = factory
        self.init = init
        self.kw_only = False


def _field(*, default_factory: object = _MISSING, init: bool = True) -> _RecordField:
    return _RecordField(_MISSING, default_factory, init=init)


def _dataclass(
    cls: type | None = None,
    *,
    frozen: bool = False,
    slots: bool = False,
    kw_only: bool = False,
    eq: bool = True,
) -> Any:
    """Give a class what its fields ask for; with slots the class is another one, made from it."""

    def made(cls: type) -> type:
        own = dict(cls.__dict__)
        found = _fields_of(cls, own, kw_only=kw_only)
        methods = {"__repr__": _repr} | ({"__eq__": _eq} if eq else {})
        own = _of_fields(found, frozen=frozen) | methods | own
        if frozen:
            own |= {"__setattr__": _refuse, "__delattr__": _refuse}
        if eq and own.get("__hash__") is None:
            own["__hash__"] = _hash if frozen else None
        return _with_slots(cls, own, found) if slots else _changed(cls, own)

    return made if cls is None else made(cls)


def _fields_of(cls: type, own: dict[str, Any], *, kw_only: bool) -> dict[str, _RecordField]:
    """Return the fields of a class, those of its bases first; what is no value is taken out of own."""
    found: dict[str, _RecordField] = {}
    for base in reversed(cls.__mro__[1:]):
        found |= base.__dict__.get(_FIELDS, {})
    for name, annotation in cls.__annotations__.items():
        if annotation is ClassVar or getattr(annotation, "__origin__", None) is ClassVar:
            continue
        given = own.get(name, _MISSING)
        if isinstance(given, _RecordField):
            del own[name]
        item = given if isinstance(given, _RecordField) else _RecordField(given, _MISSING, init=True)
        item.name, item.kw_only = name, kw_only
        found[name] = item
    return found


def _of_fields(found: dict[str, _RecordField], *, frozen: bool) -> dict[str, Any]:
    return {
        "__init__": _initializer(found, frozen=frozen),
        _FIELDS: found,
        _VALUES: attrgetter(*(found or ["__class__"])),
        "__match_args__": tuple([item.name for item in found.values() if item.init and not item.kw_only]),
    }


def _initializer(found: dict[str, _RecordField], *, frozen: bool) -> Callable[..., None]:
    """Return what compiles the __init__ of a class when it is called, and is replaced by it."""

    def compile_first(self: object, *values: object, **named: object) -> None:
        cls = next(cls for cls in type(self).__mro__ if cls.__dict__.get("__init__") is compile_first)
        compiled = _compiled(found, frozen=frozen)
        compiled.__qualname__ = f"{cls.__qualname__}.__init__"
        compiled.__annotations__ = {**cls.__annotations__, "return": None}
        type.__setattr__(cls, "__init__", compiled)
        compiled(self, *values, **named)

    return compile_first


def _compiled(found: dict[str, _RecordField], *, frozen: bool) -> Callable[..., None]:
    """Return an __init__ that takes and sets the fields."""
    known: dict[str, Any] = {"_missing": _MISSING, "_set": object.__setattr__}
    positional, named, body = ["self"], ["*"], ["pass"]
    for name, item in found.items():
        value = name
        if item.default_factory is not _MISSING:
            known[f"_make_{name}"] = item.default_factory
            value = f"_make_{name}() if {name} is _missing else {name}" if item.init else f"_make_{name}()"
        elif item.default is not _MISSING:
            known[f"_default_{name}"] = item.default
        if item.init:
            (named if item.kw_only else positional).append(_parameter(item))
        if value != name or item.init:
            body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    parameters = ", ".join(positional + (named if named[1:] else []))
    lines = "\n    ".join(body)
    exec(f"def __init__({parameters}):\n    {lines}", known)  # noqa: S102 - of names that classes have
    compiled: Callable[..., None] = known["__init__"]
    return compiled


def _parameter(item: _RecordField) -> str:
    if item.default_factory is not _MISSING:
        return f"{item.name}=_missing"
    return item.name if item.default is _MISSING else f"{item.name}=_default_{item.name}"


def _changed(cls: type, own: dict[str, Any]) -> type:
    for name, value in own.items():
        if cls.__dict__.get(name, _MISSING) is not value:
            setattr(cls, name, value)
    for name in [name for name, value in cls.__dict__.items() if isinstance(value, _RecordField)]:
        delattr(cls, name)
    return cls


def _with_slots(cls: type, own: dict[str, Any], found: dict[str, _RecordField]) -> type:
    """Return the same class with a slot for each field that no base has one for."""
    taken = set(itertools.chain.from_iterable(base.__dict__.get("__slots__", ()) for base in cls.__mro__[1:]))
    own = {name: value for name, value in own.items() if name not in {*found, "__dict__", "__weakref__"}}
    own["__slots__"] = tuple([name for name in found if name not in taken])
    made = type(cls)(cls.__name__, cls.__bases__, own)
    made.__qualname__ = cls.__qualname__
    return made


def _repr(self: object) -> str:
    shown = [f"{name}={getattr(self, name)!r}" for name in getattr(self, _FIELDS)]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: object, other: object) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    values = getattr(self, _VALUES)
    return values(self) == values(other)


def _hash(self: object) -> int:
    return hash(getattr(self, _VALUES)(self))


def _refuse(self: object, name: str, *_value: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} is frozen")


def _fields(of: Any) -> tuple[_RecordField, ...]:
    """Return the fields of a dataclass, or of an object of one. Raises AttributeError for anything else."""
    return tuple(getattr(of, _FIELDS).values())


def _is_dataclass(of: object) -> bool:
    return hasattr(of, _FIELDS)


def _replace(value: Any, /, **changes: Any) -> Any:
    """Return the same but for the fields named."""
    return type(value)(**{name: getattr(value, name) for name in getattr(value, _FIELDS)} | changes)


if TYPE_CHECKING:
    from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
else:
    MISSING = _MISSING
    dataclass, field, fields, is_dataclass, replace = _dataclass, _field, _fields, _is_dataclass, _replace
