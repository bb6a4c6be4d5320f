"""Values that the file writes in a form of their own: texts, times, rates, sizes.

Each is a class with the text for "expected ...", the JSON Schema of what may be written, and
parse(), which returns the value or raises Misfit: without a text where "expected ..., found
..." says it all, with one where it can say better what to write.
"""

import re
from typing import Any, ClassVar, Self

from ucspid.config.positions import Scalar
from ucspid.plan import Rate, Throttling

MAX_TIME = 30 * 86400
MAX_RATE = 1_000_000
MAX_LIMIT = 1 << 62
MAX_THROTTLE_FAILURES = 1000
MIN_THROTTLE_INTERVAL = 0.1
MAX_THROTTLE_INTERVAL = 3600.0
MAX_MESSAGE = 512
MAX_ID = (1 << 32) - 2
"""The greatest user or group id; the one above means none to setuid(2)."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|min|m|h|d)?")
_PERIODS = {
    "s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400,
}  # fmt: skip
_PERIOD_NAMES: dict[float, str] = {1: "s", 60: "min", 3600: "hour", 86400: "day"}
_RATE = re.compile(r"([0-9]{1,9})/(s|sec|min|h|hour|d|day)")
_THROTTLE = re.compile(r"([0-9]{1,4})/([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|min|m|h)")
_SIZE = re.compile(r"([0-9]{1,18})([kMG]?)")
_FACTORS = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Misfit(ValueError):  # noqa: N818
    """The value does not have the form; without a text, what was expected says it all."""


class Form:
    """A value written in a form of its own.

    as_written says that parse() gets the text as it stands in the file, whatever YAML makes of it:
    0 and -0, 1.50 and yes are different texts. null_as_written says so of null and ~, too.
    """

    expects: ClassVar[str]
    json_schema: ClassVar[dict[str, Any]]
    as_written: ClassVar[bool] = True
    null_as_written: ClassVar[bool] = False

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the value that the scalar of the file stands for. Raises Misfit."""
        raise NotImplementedError

    def written(self) -> str | bool:
        """Return the value as the file writes it: defaults are shown so."""
        return str(self)

    def planned(self) -> Any:
        """Return the value as a plan has it: a string, a number, or a value of plan.py."""
        match self:
            case str():
                return str(self)
            case int():
                return int(self)
            case float():
                return float(self)
        raise NotImplementedError


class ProgramText(Form, str):
    """Text that a program gets."""

    __slots__ = ()
    expects = "text"
    json_schema: ClassVar[dict[str, Any]] = {"type": ["string", "number", "boolean", "null"]}
    null_as_written = True

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the text."""
        if not isinstance(value, str):
            raise Misfit
        if "\0" in value:
            raise Misfit("a NUL character cannot be passed to a program")
        return cls(value)


class Message(Form, str):
    """What a refused client is sent: at most 512 bytes in UTF-8."""

    __slots__ = ()
    expects = f"text of at most {MAX_MESSAGE} bytes"
    json_schema: ClassVar[dict[str, Any]] = {
        "type": ["string", "number", "boolean"], "maxLength": MAX_MESSAGE
    }  # fmt: skip

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the message."""
        if not isinstance(value, str):
            raise Misfit
        if (length := len(value.encode())) > MAX_MESSAGE:
            raise Misfit(f"{length} bytes long, at most {MAX_MESSAGE} are allowed")
        return cls(value)


class Path(Form, str):
    """A path."""

    __slots__ = ()
    expects = "a path"
    json_schema: ClassVar[dict[str, Any]] = {"type": ["string", "number", "boolean"], "minLength": 1}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the path."""
        if not isinstance(value, str) or not value or "\0" in value:
            raise Misfit
        return cls(value)


class Account(Form):
    """A user or a group, by name or by number."""

    __slots__ = ("value",)
    expects = f"a name or a number from 0 to {MAX_ID}"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0, "maximum": MAX_ID}]
    }

    def __init__(self, value: str | int) -> None:
        """Keep the name or the number."""
        self.value = value

    def __str__(self) -> str:
        """Return the form that the file uses."""
        return str(self.value)

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the account; digits are a number."""
        if not isinstance(value, str) or not value or "\0" in value or value.startswith("-"):
            raise Misfit
        if not _NUMBER.fullmatch(value):
            return cls(value)
        if int(value) > MAX_ID:
            raise Misfit
        return cls(int(value))


class ServiceName(Form, str):
    """The name of a service."""

    __slots__ = ()
    pattern: ClassVar[str] = "[a-z0-9][a-z0-9_.-]{0,31}"
    expects = "a name of at most 32 lower-case letters, digits, _, . and -, starting with a letter or digit"
    json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": f"^{pattern}$"}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the name."""
        if not isinstance(value, str) or not re.fullmatch(cls.pattern, value):
            raise Misfit
        return cls(value)


class EnvName(Form, str):
    """The name of an environment variable."""

    __slots__ = ()
    expects = "the name of a variable, without = and NUL"
    json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": "^[^=]+$"}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the name."""
        if not isinstance(value, str) or not value or "=" in value or "\0" in value:
            raise Misfit
        return cls(value)


class Umask(Form, int):
    """A file mode creation mask, umask(2), in octal."""

    expects = "an octal mask with a leading zero, from 0 to 0777"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "string", "pattern": "^0[0-7]{0,3}$"}, {"type": "integer", "minimum": 0}]
    }

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the mask; 22 without the zero is refused, as decimal and octal differ."""
        if not isinstance(value, str) or not re.fullmatch(r"0[0-7]{0,3}", value):
            raise Misfit
        return cls(value, 8)

    def __str__(self) -> str:
        """Return the form that the file uses."""
        return f"0{int(self):02o}"


class FileMode(Umask):
    """Permissions of a file, chmod(2), in octal."""

    expects = "permissions in octal with a leading zero, from 0 to 0777"


class Duration(Form, float):
    """A time in seconds."""

    expects = "a time from 0 to 30d such as 500ms, 5s, 2min, 1h or 1d (a bare number is seconds)"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": MAX_TIME},
            {"type": "string", "pattern": rf"^{_TIME.pattern}$"},
        ]
    }
    least: ClassVar[float] = 0.0
    most: ClassVar[float] = MAX_TIME

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the time."""
        found = _TIME.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise Misfit
        seconds = float(found[1]) * _SECONDS[found[2] or "s"]
        if not cls.least <= seconds <= cls.most:
            raise Misfit
        return cls(seconds)

    def __str__(self) -> str:
        """Return the form that the file uses."""
        return f"{float(self):g}s"


class Lifetime(Duration):
    """A time in seconds that is not zero."""

    expects = "a time from 1s to 30d such as 90s, 2min, 1h or 1d (a bare number is seconds)"
    least = 1.0


class Frequency(Form):
    """So many in a period: a token bucket before its burst is known."""

    __slots__ = ("count", "seconds")
    expects = f"a rate such as 500/s, 60/min, 100/hour or 1000/day (a count from 1 to {MAX_RATE})"
    json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": rf"^{_RATE.pattern}$"}

    def __init__(self, count: int, seconds: float) -> None:
        """Keep count per seconds."""
        self.count = count
        self.seconds = seconds

    def __str__(self) -> str:
        """Return the form that the file uses."""
        return f"{self.count}/{_PERIOD_NAMES[self.seconds]}"

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the rate."""
        found = _RATE.fullmatch(value) if isinstance(value, str) else None
        if found is None or not 1 <= int(found[1]) <= MAX_RATE:
            raise Misfit
        return cls(int(found[1]), float(_PERIODS[found[2]]))

    def planned(self) -> Rate:
        """Return the token bucket, its burst being the count."""
        return self.bucket(None)

    def bucket(self, burst: int | None) -> Rate:
        """Return the token bucket; its burst is the count unless given."""
        return Rate(count=self.count, seconds=self.seconds, burst=burst or self.count)


class ThrottleForm(Form):
    """When and how a service is slowed whose program cannot be started; without settings it never is."""

    __slots__ = ("settings",)
    expects = "off, or FAILURES/INTERVAL such as 5/1s (1 to 1000 failures, an interval of 100ms to 1h)"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"const": False}, {"const": "off"}, {"type": "string", "pattern": f"^{_THROTTLE.pattern}$"}]
    }

    def __init__(self, settings: Throttling | None) -> None:
        """Keep the settings."""
        self.settings = settings

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return when the service is slowed."""
        if value is False or value == "off":
            return cls(None)
        found = _THROTTLE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise Misfit
        failures, interval = int(found[1]), float(found[2]) * _SECONDS[found[3]]
        if not 1 <= failures <= MAX_THROTTLE_FAILURES:
            raise Misfit
        if not MIN_THROTTLE_INTERVAL <= interval <= MAX_THROTTLE_INTERVAL:
            raise Misfit
        return cls(Throttling(failures=failures, interval=interval))

    def written(self) -> str | bool:
        """Return the value as the file writes it."""
        return "off" if self.settings is None else f"{self.settings.failures}/{self.settings.interval:g}s"

    def planned(self) -> Throttling | None:
        """Return the settings."""
        return self.settings


class Limit(Form):
    """A limit of setrlimit(2); value None is infinity."""

    __slots__ = ("value",)
    expects = "a whole number or infinity"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "integer", "minimum": 0}, {"const": "infinity"}]
    }
    least: ClassVar[int] = 0
    least_written: ClassVar[str] = ""
    softlimit: ClassVar[str] = ""
    """The option of softlimit(8) for it, where there is a least value."""
    suffixes: ClassVar[str] = ""

    def __init__(self, value: int | None) -> None:
        """Keep the value."""
        self.value = value

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the limit."""
        if value == "infinity":
            return cls(None)
        found = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if found is None or found[2] not in cls.suffixes:
            raise Misfit
        number = int(found[1]) * _FACTORS[found[2]]
        if number > MAX_LIMIT:
            raise Misfit
        if number < cls.least:
            raise Misfit(
                f"{value} is less than a launcher needs, which lives under it too: {cls.least_written}. "
                f"For less, begin program with softlimit, {cls.softlimit}, {number}"
            )
        return cls(number)


class Descriptors(Limit):
    """A limit of open files; a launcher needs some itself."""

    expects = "a whole number of at least 64, or infinity"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "integer", "minimum": 64}, {"const": "infinity"}]
    }
    least = 64
    least_written = "64"
    softlimit = "-o"


class Size(Limit):
    """A limit in bytes."""

    expects = "a number of bytes such as 4096, 64k, 100M or 1G, or infinity"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": "^([0-9]+[kMG]?|infinity)$"},
        ]
    }
    suffixes = "kMG"


class StackSize(Size):
    """A limit in bytes under which a launcher still has its stack."""

    expects = "a number of bytes of at least 1M, such as 8M, or infinity"
    least = 1 << 20
    least_written = "1M"
    softlimit = "-s"


class MemorySize(Size):
    """A limit in bytes under which a launcher still has its memory."""

    expects = "a number of bytes of at least 64M, such as 200M or 1G, or infinity"
    least = 64 << 20
    least_written = "64M"
    softlimit = "-m"
