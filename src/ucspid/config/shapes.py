"""What a place in the file may hold, made from the schema's annotations.

A shape turns a node into a value and adds to the problems what does not fit; it never stops
at a mistake, so that one reading finds all of them. It also has the words for "expected ...".
"""

import difflib
import functools
import json
import shlex
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from ucspid.config.forms import Form, Misfit
from ucspid.config.positions import Node, Scalar
from ucspid.config.problems import Problems, under
from ucspid.records import dataclass, replace

WRONG: Any = object()
"""What a conversion returns when a problem was added instead."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar that msgspec checks: a number within bounds, a boolean, one of several words."""

    annotation: Any
    expects: str
    choices: tuple[str, ...] = ()

    def convert(self, node: Node, path: str, problems: Problems) -> Any:
        """Return the scalar."""
        if not isinstance(node.value, list | dict):
            try:
                return msgspec.convert(node.value, self.annotation)
            except msgspec.ValidationError:
                pass
        return mismatch(
            self.expects, node, path, problems, hint=_question(nearest(str(node.value), self.choices))
        )


@dataclass(frozen=True, slots=True)
class Formed:
    """A scalar in a form of its own."""

    form: type[Form]

    @property
    def expects(self) -> str:
        """Return the words for what may be written."""
        return self.form.expects

    def convert(self, node: Node, path: str, problems: Problems) -> Any:
        """Return the value."""
        if isinstance(node.value, list | dict):
            return mismatch(self.expects, node, path, problems)
        try:
            return self.form.parse(self._scalar(node))
        except Misfit as error:
            if error.args:
                problems.add(path, str(error))
                return WRONG
        hint = ": quote it" if node.value is not None and self._would_fit(node.text) else ""
        return mismatch(self.expects, node, path, problems, hint=hint)

    def _scalar(self, node: Node) -> Scalar:
        """Return what the form parses: what YAML made of it, or the text as it stands in the file."""
        assert not isinstance(node.value, list | dict)
        if not self.form.as_written or (node.value is None and not self.form.null_as_written):
            return node.value
        return node.text or node.value

    def _would_fit(self, text: str) -> bool:
        try:
            self.form.parse(text)
        except Misfit:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list; where single is true one item may stand for a list of one."""

    item: "Shape"
    least: int
    most: int | None
    single: bool

    @property
    def expects(self) -> str:
        """Return the words for what may be written."""
        return "a list" if not self.least else "a list of at least one item"

    def convert(self, node: Node, path: str, problems: Problems) -> Any:
        """Return a list of the items that are right."""
        if isinstance(node.value, list) and self.most is not None and len(node.value) > self.most:
            problems.add(path, f"{len(node.value)} items, at most {self.most} are allowed")
            return WRONG
        if isinstance(node.value, list) and len(node.value) >= self.least:
            return [
                value
                for index, item in enumerate(node.value)
                if (value := self._item(item, f"{path}[{index}]", problems)) is not WRONG
            ]
        if isinstance(node.value, list):
            problems.add(path, f"expected {self.expects}, found an empty one")
            return WRONG
        if self.single and node.value is not None:
            value = self.item.convert(node, path, problems)
            return WRONG if value is WRONG else [value]
        return mismatch(self.expects, node, path, problems, hint=_as_list(node))

    def _item(self, node: Node, path: str, problems: Problems) -> Any:
        problems.places[path] = (node.line, node.column)
        value = self.item.convert(node, path, problems)
        if value is WRONG:
            problems.drop(path)
        return value


@dataclass(frozen=True, slots=True)
class ElseScalar:
    """A list or a mapping, or in its place a scalar that means something else."""

    full: "Sequence | Record"
    alone: Formed

    @property
    def expects(self) -> str:
        """Return the words for what may be written: the scalar's speak for both."""
        return self.alone.expects

    def convert(self, node: Node, path: str, problems: Problems) -> Any:
        """Return a list of the items that are right, the struct, or the scalar's value."""
        kind = list if isinstance(self.full, Sequence) else dict
        shape = self.full if isinstance(node.value, kind) else self.alone
        return shape.convert(node, path, problems)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping from names to values of one shape."""

    key: Formed
    value: "Shape"
    least: int
    expects: str = "a mapping"

    def convert(self, node: Node, path: str, problems: Problems) -> Any:
        """Return a dict of the entries that are right."""
        if not isinstance(node.value, dict):
            return mismatch(self.expects, node, path, problems)
        if len(node.value) < self.least:
            problems.add(path, "at least one is required")
        result = {}
        for key, (key_node, value_node) in node.value.items():
            inner = under(path, key)
            _place(problems, inner, key_node, value_node)
            name = self.key.convert(replace(key_node, value=key), inner, problems)
            value = self.value.convert(value_node, inner, problems)
            if name is not WRONG and value is not WRONG:
                result[name] = value
        return result


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a record: its name in the file and in Python, what it holds, what it is without."""

    key: str
    name: str
    shape: "Shape"
    required: bool
    default: Callable[[], Any]
    description: str


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with fixed keys. A wrong or missing value becomes the key's default.

    Of the keys in either exactly one must be given.
    """

    struct: type[msgspec.Struct]
    fields: dict[str, Field]
    either: tuple[str, ...] = ()
    expects: str = "a mapping"

    def convert(self, node: Node, path: str, problems: Problems) -> Any:
        """Return the struct."""
        if not isinstance(node.value, dict):
            return mismatch(self.expects, node, path, problems)
        found = {}
        for key, (key_node, value_node) in node.value.items():
            inner = under(path, key)
            _place(problems, inner, key_node, value_node if key in self.fields else key_node)
            if key not in self.fields:
                self._unknown(key, path, problems)
                continue
            value = self.fields[key].shape.convert(value_node, inner, problems)
            if value is not WRONG:
                found[self.fields[key].name] = value
        for field in self.fields.values():
            if field.required and field.key not in node.value:
                problems.add(under(path, field.key), "required, but not given")
            if field.name not in found:
                found[field.name] = field.default()
        if self.either and sum(self._says(key, node.value) for key in self.either) != 1:
            *others, last = self.either
            problems.add(path, f"exactly one of {', '.join(others)} and {last} is required")
        return self.struct(**found)

    def _says(self, key: str, given: dict[str, tuple[Node, Node]]) -> bool:
        """Return whether a key is given, and does not say by null that it is not."""
        return key in given and not (
            isinstance(self.fields[key].shape, Optional) and given[key][1].value is None
        )

    def _unknown(self, key: str, path: str, problems: Problems) -> None:
        near = nearest(key, self.fields)
        problems.add(under(path, key), f"unknown key{_question(near)}")
        if near:
            problems.distrust(under(path, near))


@dataclass(frozen=True, slots=True)
class Optional:
    """A value or null."""

    inner: "Shape"

    @property
    def expects(self) -> str:
        """Return the words for what may be written."""
        return self.inner.expects

    def convert(self, node: Node, path: str, problems: Problems) -> Any:
        """Return the value or None."""
        return None if node.value is None else self.inner.convert(node, path, problems)


Shape = Leaf | Formed | Sequence | ElseScalar | Mapping | Record | Optional


def mismatch(expects: str, node: Node, path: str, problems: Problems, *, hint: str = "") -> Any:
    """Add what was expected and what was found, and return WRONG."""
    problems.add(path, f"expected {expects}, found {node.shown()}{hint}")
    return WRONG


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the name that was probably meant; nothing if none is near."""
    return next(iter(difflib.get_close_matches(word, list(words), 1)), "")


def _question(near: str) -> str:
    return f", did you mean {near}?" if near else ""


@functools.cache
def record(struct: type[msgspec.Struct]) -> Record:
    """Return the shape of a struct of the schema."""
    hints = get_type_hints(struct, include_extras=True)
    return Record(
        struct,
        {field.encode_name: _field(field, hints[field.name]) for field in msgspec.structs.fields(struct)},
        getattr(struct, "either", ()),
    )


def _field(field: msgspec.structs.FieldInfo, annotation: Any) -> Field:
    shape = _shape(annotation)
    default: Callable[[], Any] = dict if isinstance(shape, Mapping) else list
    if field.default is not msgspec.NODEFAULT:
        default = functools.partial(_same, field.default)
    elif field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory
    metas = [meta for meta in get_args(annotation)[1:] if isinstance(meta, msgspec.Meta)]
    description = next((meta.description for meta in metas if meta.description), "")
    return Field(field.encode_name, field.name, shape, field.required, default, description)


def _same(value: Any) -> Any:
    return value


def _shape(annotation: Any) -> Shape:
    metas: tuple[Any, ...] = ()
    base = annotation
    if get_origin(base) is Annotated:
        base, *rest = get_args(base)
        metas = tuple(rest)
    origin, arguments = get_origin(base), get_args(base)
    least = max((meta.min_length or 0 for meta in metas), default=0)
    most = next((meta.max_length for meta in metas if meta.max_length is not None), None)
    if origin in {Union, UnionType}:
        shape = _one_of([_shape(argument) for argument in arguments if argument is not NoneType])
        return Optional(shape) if NoneType in arguments else shape
    if origin is list:
        single = any((meta.extra or {}).get("single") for meta in metas)
        return Sequence(_shape(arguments[0]), least, most, single)
    if origin is dict:
        return Mapping(Formed(arguments[0]), _shape(arguments[1]), least)
    if origin is Literal:
        return Leaf(annotation, "one of " + ", ".join(arguments), arguments)
    if issubclass(base, msgspec.Struct):
        return record(base)
    return Formed(base) if issubclass(base, Form) else Leaf(annotation, _range(base, metas))


def _one_of(shapes: list[Shape]) -> Shape:
    if len(shapes) == 1:
        return shapes[0]
    full, alone = sorted(shapes, key=lambda shape: isinstance(shape, Formed))
    assert isinstance(full, Sequence | Record)
    assert isinstance(alone, Formed)
    return ElseScalar(full, alone)


def _range(base: type, metas: tuple[Any, ...]) -> str:
    if base is bool:
        return "true or false"
    least = next(meta.ge for meta in metas if meta.ge is not None)
    most = next(meta.le for meta in metas if meta.le is not None)
    return f"a whole number from {least} to {most}"


def _place(problems: Problems, path: str, key: Node, value: Node) -> None:
    node = key if isinstance(value.value, dict) else value
    problems.places[path] = (node.line, node.column)


def _as_list(node: Node) -> str:
    if not isinstance(node.value, str):
        return ""
    try:
        words = shlex.split(node.value)
    except ValueError:
        words = [node.value]
    return f"; write it as {json.dumps(words, ensure_ascii=False)}"
