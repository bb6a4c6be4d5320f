"""What crosses from process to process as bytes: classes whose annotations are the layout.

    class Signal(Packed, kind=2):
        number: U16
        process: U32
        connection: U64

The layout is what a C compiler on a little-endian machine makes of

    struct { uint8_t kind; uint16_t number; uint32_t process; uint64_t connection; }

that is, each number stands at a multiple of its size, and what is between them is 0. What has no fixed size
(Text, Strings, Numbers, NamedLimits, Rest, another Packed) follows the numbers, in the order of the fields,
without padding. Imported by launchers: nothing but struct may be needed here.
"""

import struct
from functools import partial

from ucspid.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_options):  # noqa: ANN003, ANN201, D103
        return lambda decorated: decorated


_ABSENT = 0xFFFFFFFF
_COUNT = struct.Struct("<I")
_LIMIT = struct.Struct("<Q")
_INFINITY = (1 << 64) - 1


class _Number:
    """A field of fixed size; absent is what stands for None."""

    __slots__ = ("absent", "alignment", "code", "size")

    def __init__(self, code: str, absent: "int | None" = None) -> None:
        self.code = code
        self.size = struct.calcsize(f"<{code}")
        self.alignment = 1 if code.endswith("s") else self.size
        self.absent = absent


class _Reading:
    """A packet that is read piece by piece."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        """Return the next bytes; raises WireError if there are not so many."""
        end = self._position + size
        if end > len(self._data):
            raise WireError("a packet ends too early")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def count(self) -> int:
        """Return the next number of 4 bytes."""
        return int.from_bytes(self.take(4), "little")

    def rest(self) -> bytes:
        """Return all that has not been read."""
        return self.take(len(self._data) - self._position)


class _Rest:
    """The bytes up to the packet's end."""

    @staticmethod
    def pack(value: bytes) -> bytes:
        return value

    @staticmethod
    def read(reading: _Reading) -> bytes:
        return reading.rest()


class _Text:
    """The number of bytes, then UTF-8; for None the number is 2**32 - 1."""

    @staticmethod
    def pack(value: "str | None") -> bytes:
        if value is None:
            return _COUNT.pack(_ABSENT)
        data = value.encode("utf-8", "surrogateescape")
        return _COUNT.pack(len(data)) + data

    @staticmethod
    def read(reading: _Reading) -> "str | None":
        size = reading.count()
        return None if size == _ABSENT else reading.take(size).decode("utf-8", "surrogateescape")


class _Strings:
    """The number of byte strings, then of each the number of bytes and the bytes."""

    @staticmethod
    def pack(value: "tuple[bytes, ...]") -> bytes:
        parts = [_COUNT.pack(len(value))]
        for item in value:
            parts += (_COUNT.pack(len(item)), item)
        return b"".join(parts)

    @staticmethod
    def read(reading: _Reading) -> "tuple[bytes, ...]":
        return tuple([reading.take(reading.count()) for _ in range(reading.count())])


class _Numbers:
    """How many, then 4 bytes for each; for None the number is 2**32 - 1."""

    @staticmethod
    def pack(value: "tuple[int, ...] | None") -> bytes:
        if value is None:
            return _COUNT.pack(_ABSENT)
        return struct.pack(f"<{len(value) + 1}I", len(value), *value)

    @staticmethod
    def read(reading: _Reading) -> "tuple[int, ...] | None":
        count = reading.count()
        return None if count == _ABSENT else struct.unpack(f"<{count}I", reading.take(4 * count))


class _NamedLimits:
    """How many, then for each the name as _Text and the limit in 8 bytes, 2**64 - 1 for None."""

    @staticmethod
    def pack(value: "tuple[tuple[str, int | None], ...]") -> bytes:
        parts = [_COUNT.pack(len(value))]
        for name, limit in value:
            parts += (_Text.pack(name), _LIMIT.pack(_INFINITY if limit is None else limit))
        return b"".join(parts)

    @staticmethod
    def read(reading: _Reading) -> "tuple[tuple[str | None, int | None], ...]":
        found = []
        for _ in range(reading.count()):
            name, (limit,) = _Text.read(reading), _LIMIT.unpack(reading.take(_LIMIT.size))
            found.append((name, None if limit == _INFINITY else limit))
        return tuple(found)


if TYPE_CHECKING:
    Flag = bool
    U8 = int
    U16 = int
    U32 = int
    U64 = int
    I32 = int
    OptU32 = int | None
    OptI32 = int | None
    OptU64 = int | None
    Bytes64 = bytes
    Rest = bytes
    Text = str
    OptText = str | None
    Strings = tuple[bytes, ...]
    OptNumbers = tuple[int, ...] | None
    Numbers = tuple[int, ...]
    NamedLimits = tuple[tuple[str, int | None], ...]
else:
    Flag, U8, U16, U32, U64, I32 = map(_Number, ("?", "B", "H", "I", "Q", "i"))
    OptU32, OptI32, OptU64 = _Number("I", _ABSENT), _Number("i", -1 << 31), _Number("Q", _INFINITY)
    Bytes64 = _Number("64s")
    Text = OptText = _Text
    Numbers = OptNumbers = _Numbers
    Rest, Strings, NamedLimits = _Rest, _Strings, _NamedLimits


def _frozen(value: "Any") -> "Any":
    return tuple([_frozen(item) for item in value]) if isinstance(value, list) else value


@dataclass_transform(frozen_default=True)
class Packed:
    """A value with the fields that its class annotates; those without a default must be given."""

    KIND = 0
    """The first byte of a packet; 0 where there is none, since this is only a part of one."""

    if TYPE_CHECKING:
        FIELDS: ClassVar[tuple[tuple[str, Any], ...]]
        SIZE: ClassVar[int]
        head: ClassVar[Callable[..., bytes]]
        rows: ClassVar[Callable[[bytes], Iterator[tuple[Any, ...]]]]
        _fixed: ClassVar[tuple[tuple[str, Any], ...]]
        _tails: ClassVar[tuple[tuple[str, Any], ...]]
        _head: ClassVar[struct.Struct]
    else:
        FIELDS = ()
        """The name of each field, and how it is laid out."""
        SIZE = 0
        """Bytes of the fields of fixed size, and of the kind before them."""
        head = rows = None
        """head() packs the fields of fixed size; rows() yields them, for each of several in a packet whose
        size is a multiple of SIZE. No object is made: for what is sent and received all the time."""

    def __init_subclass__(cls, kind: int = 0) -> None:
        """Lay the fields out, those of a base class first."""
        cls.KIND = kind
        fields = dict(cls.FIELDS) | getattr(cls, "__annotations__", {})  # not there in Python 3.9
        cls.FIELDS = tuple(fields.items())
        numbers = [(name, field) for name, field in cls.FIELDS if isinstance(field, _Number)]
        cls._fixed = tuple([(name, field.absent) for name, field in numbers])
        cls._tails = tuple([(name, field) for name, field in cls.FIELDS if not isinstance(field, _Number)])
        layout, size = ("<B", 1) if kind else ("<", 0)
        for _name, field in numbers:
            padding = -size % field.alignment
            layout += f"{padding}x{field.code}"
            size += padding + field.size
        cls._head = head = struct.Struct(layout)
        cls.SIZE = head.size
        cls.head = partial(head.pack, kind) if kind else head.pack
        cls.rows = head.iter_unpack

    def __init__(self, *values: "Any", **named: "Any") -> None:
        """Take the fields in their order, or by name."""
        own = self.__dict__
        own.update([(name, value) for (name, _), value in zip(self.FIELDS, values)])
        own.update(named)
        for name, _ in self.FIELDS:
            if name not in own:
                own[name] = getattr(type(self), name)

    def __eq__(self, other: object) -> bool:
        """Compare class and fields."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        """Return one hash for equal values."""
        return hash(tuple([self.__dict__[name] for name, _ in self.FIELDS]))

    def __repr__(self) -> str:
        """Return the call that makes it."""
        fields = ", ".join(f"{name}={self.__dict__[name]!r}" for name, _ in self.FIELDS)
        return f"{type(self).__name__}({fields})"

    def changed(self, **named: "Any") -> "Self":
        """Return the same but for the fields named."""
        return type(self)(**{**self.__dict__, **named})

    @classmethod
    def from_plain(cls, data: "dict[str, Any]") -> "Self":
        """Return it from vars() of one that went through JSON, perhaps from another version of this class."""
        return cls(**{name: _frozen(data[name]) for name, _ in cls.FIELDS if name in data})

    def pack(self) -> bytes:
        """Return the packet. Raises ValueError for a number that its field cannot hold."""
        own = self.__dict__
        fixed = [absent if own[name] is None else own[name] for name, absent in self._fixed]
        try:
            head = self._head.pack(self.KIND, *fixed) if self.KIND else self._head.pack(*fixed)
        except struct.error as problem:
            raise ValueError(f"{self!r}: {problem}") from None
        return b"".join([head, *[field.pack(own[name]) for name, field in self._tails]])

    @classmethod
    def peek(cls, packet: bytes) -> "tuple[Any, ...]":
        """Return the fields of fixed size of a packet whose kind is known; what follows begins at SIZE.

        No object is made, as with rows(). Raises WireError for a packet that is too short.
        """
        if len(packet) < cls.SIZE:
            raise WireError(f"a packet of {len(packet)} bytes is too short for a {cls.__name__}")
        return cls._head.unpack_from(packet)[1:]

    @classmethod
    def unpack(cls, packet: bytes) -> "Self":
        """Return what pack() packed; raises WireError for anything else."""
        if cls.KIND and packet[:1] != bytes([cls.KIND]):
            raise WireError(f"a packet of kind {packet[:1].hex()} where a {cls.__name__} was due")
        reading = _Reading(packet)
        self = cls.read(reading)
        if reading.rest():
            raise WireError(f"{len(packet)} bytes are too many for a {cls.__name__}")
        return self

    @classmethod
    def read(cls, reading: _Reading) -> "Self":
        """Read one that is a part of a packet, or a whole."""
        values = cls._head.unpack(reading.take(cls._head.size))
        self = cls.__new__(cls)
        own = self.__dict__
        for (name, absent), value in zip(cls._fixed, values[1:] if cls.KIND else values):
            own[name] = None if value == absent else value
        for name, field in cls._tails:
            own[name] = field.read(reading)
        return self
