"""The imports that a script begins with."""

import pytest

from ucspid.launcher.preload.imports import leading_imports


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("", []),
        ("import a", ["a"]),
        ("import a, b.c as d\nfrom e import f, g\nfrom h import *\n", ["a, b.c", "e", "h"]),
        ('#!/usr/bin/python3\n"""What."""\nfrom __future__ import annotations\nimport a\n', ["a"]),
        ("import sys\nsys.path.insert(0, 'lib')\nimport a\n", ["sys"]),
        ("import a\ntry:\n    import b\nexcept ImportError:\n    b = None\nimport c\n", ["a"]),
        ("if True:\n    import a\nimport b\n", []),
        ("from . import a\nimport b\n", []),
        ("def f():\n    import a\nimport b\n", []),
        ("import a; x = 1; import b", ["a"]),
    ],
)
def test_imports_count_up_to_the_first_other_statement(source: str, modules: list[str]) -> None:
    assert [name for name, _code in leading_imports(source.encode(), "x.py")] == modules


def test_an_import_is_made_where_it_stands() -> None:
    ((_name, code),) = leading_imports(b"\n\nimport this_is_not_there\n", "x.py")
    with pytest.raises(ModuleNotFoundError) as raised:
        exec(code, {})
    frame = raised.traceback[-1]
    assert (str(frame.path).rpartition("/")[2], frame.lineno + 1) == ("x.py", 3)


@pytest.mark.parametrize("source", [b"def f(:", b"\0", b"# coding: no-such-coding\n"])
def test_what_is_no_python_is_an_error(source: bytes) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        leading_imports(source, "x.py")
