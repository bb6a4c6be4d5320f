"""The layers, read from the sources: who may import what, and how large things may become."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucspid

SOURCE = Path(ucspid.__path__[0])
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))
}
MODULES = sorted(FILES)

POLICY = {
    "address", "backoff", "changes", "checked", "connection", "environ", "inet", "limits", "plan", "rate",
    "refusals", "lookup.cache", "lookup.found", "lookup.hostname",
    *(name for name in MODULES if name.startswith("rules.")),
}  # fmt: skip
"""What decides, and is tested without a socket or a clock."""

ACTION = {
    "asyncio", "os", "socket", "select", "signal", "time", "subprocess", "logging", "yaml", "uvloop",
    "structlog", "threading", "multiprocessing", "pathlib",
}  # fmt: skip
EXCEPTIONS = {
    ("inet", "socket"),  # inet_pton(3) is there, and ten times as fast as anything else
    ("rules.bounds", "os"),  # reads a rules file when asked to
    ("rules.tcprules", "os"),  # compiles one, as tcprules(1) does
}

LOOP = {
    "before", "control", "entrance", "events", "followed", "gate", "handover", "listener", "log", "loop",
    "masterlink", "rollcall", "server", "service", "session", "spawn", "status", "stderrlog", "verify",
    *(name for name in MODULES if name.startswith(("lookup.", "confine."))),
} - POLICY  # fmt: skip
"""What runs in the event loop's process, and nowhere else."""

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


def imports(module: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for each import; name is empty where a module is imported as a whole."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


@functools.cache
def own_imports(module: str) -> set[str]:
    """Return the modules of ucspid that a module imports, by their names here."""
    wanted = set()
    for name, item in imports(module):
        package, _, rest = name.partition(".")
        if package == "ucspid":
            wanted |= {rest, f"{rest}.{item}".lstrip("."), f"{rest}.__init__"} & set(MODULES)
    return wanted


@functools.cache
def top_level(module: str) -> set[str]:
    return {name.partition(".")[0] for name, _ in imports(module)}


@functools.cache
def needed(module: str) -> set[str]:
    """Return what is loaded with a module: itself and all that it imports, and they import."""
    seen: set[str] = set()
    ahead = {module}
    while ahead:
        name = ahead.pop()
        seen.add(name)
        ahead |= own_imports(name) - seen
    return seen


@pytest.mark.parametrize("module", sorted(POLICY))
def test_policy_acts_on_nothing(module: str) -> None:
    assert top_level(module) & ACTION - {name for owner, name in EXCEPTIONS if owner == module} == set()


@pytest.mark.parametrize("module", sorted(POLICY))
def test_policy_needs_policy_only(module: str) -> None:
    assert own_imports(module) <= POLICY | {"errors"}


def test_only_modules_of_the_loop_import_its_event_loop() -> None:
    users = {module for module in MODULES if top_level(module) & {"asyncio", "uvloop"}}
    assert users - LOOP == set()


@pytest.mark.parametrize("role", ["master.start", "master.resume", "launcher.__main__", "config.__main__"])
def test_the_other_processes_need_nothing_of_the_loop(role: str) -> None:
    assert needed(role) & LOOP == set()
    assert {name for module in needed(role) for name in top_level(module)} & {"asyncio", "uvloop"} == set()


def test_the_master_reads_no_yaml_and_has_no_threads() -> None:
    loaded = {name for module in needed("master.main") for name in top_level(module)}
    assert loaded & {"yaml", "msgspec", "structlog", "threading", "multiprocessing"} == set()
    assert not any(module.startswith("config.") for module in needed("master.main"))


def test_the_loop_starts_no_process() -> None:
    for module in needed("loop"):
        assert "subprocess" not in top_level(module), module
        calls = {
            node.attr
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        }
        assert {name for name in calls if name.startswith(("fork", "posix_spawn", "exec", "system"))} == set()


def test_what_runs_in_a_launcher_is_little() -> None:
    beyond = {name for name in needed("launcher.__main__") if not name.startswith(("launcher.", "wire."))}
    assert beyond == {"descriptors", "errors", "linux"}


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_is_imported(module: str) -> None:
    assert [
        (name, item)
        for name, item in imports(module)
        if name.startswith("ucspid") and (item.startswith("_") or "._" in name) and not item.startswith("__")
    ] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_absolute(module: str) -> None:
    assert all(not node.level for node in ast.walk(tree(module)) if isinstance(node, ast.ImportFrom))


@pytest.mark.parametrize("module", MODULES)
def test_nothing_grows_too_long(module: str) -> None:
    assert len(FILES[module].read_text().splitlines()) <= LONGEST_MODULE
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_of_use(module: str) -> None:
    roots = {"__main__", "cli.main", "loop", "launcher.__main__", "config.__main__", "master.trial"}
    roots |= {name for name in MODULES if name.startswith("cli.")}
    assert module.endswith("__init__") or any(module in needed(root) for root in roots)
