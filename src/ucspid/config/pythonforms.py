"""Names of modules and of what is in them, as the file writes them."""

import re
from typing import Any, ClassVar, Self

from ucspid.config.forms import Form, Misfit
from ucspid.config.positions import Scalar


class ModuleName(Form, str):
    """The name of a module of Python, with those of its packages."""

    __slots__ = ()
    pattern: ClassVar[str] = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    expects = "the name of a module such as email.parser"
    json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": r"^[^.:/]+(\.[^.:/]+)*$"}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the name."""
        if not isinstance(value, str) or not re.fullmatch(cls.pattern, value):
            raise Misfit
        return cls(value)


class ModuleFunction(ModuleName):
    """A function of a module, as entry points are written."""

    __slots__ = ()
    pattern = rf"{ModuleName.pattern}:{ModuleName.pattern}"
    expects = "a function of a module, written as package.module:function"
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string", "pattern": r"^[^.:/]+(\.[^.:/]+)*:[^.:/]+(\.[^.:/]+)*$"
    }  # fmt: skip
