"""The layers: a folder of src/ucspid says who may import what; how large things are, and their names."""

import ast
import collections
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucspid
from ucspid.admission.pipeline import STAGES
from ucspid.tools.table import NEED_PACKAGES, TOOLS

SOURCE = Path(ucspid.__path__[0])
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))
}
MODULES = sorted(FILES)


@functools.cache
def tree(module: str) -> ast.Module:
    """Return what a module is; it is read when a test asks, since all processes of pytest load this file."""
    return ast.parse(FILES[module].read_text())


BASE = {"__init__", "errors", "records", "codec", "profile", "plain"}
PURE = BASE | {"plan", "net", "policy", "limits"}
SHARED = PURE | {"ipc", "linux", "rules"}
LAYERS = {
    "__init__": set(),
    "errors": set(),
    "records": set(),
    "codec": {"errors"},
    "profile": {"codec"},
    "plain": {"codec", "records"},
    "net": BASE,
    "plan": BASE | {"net"},
    "policy": BASE | {"plan", "net"},
    "limits": BASE | {"plan", "net", "policy"},
    "ipc": BASE | {"net"},
    "linux": BASE,
    "rules": PURE,
    "tls": PURE | {"ipc", "linux"},
    "forward": BASE | {"net"},
    "journal_relay": BASE | {"linux"},
    "tools": PURE | {"rules", "tls"},
    "launcher": BASE | {"ipc", "linux", "policy"},
    "lookup": PURE,
    "observe": PURE | {"linux", "tools"},
    "roll_call": BASE | {"ipc"},
    "spawn": BASE | {"ipc", "roll_call"},
    "pool": BASE | {"spawn"},
    "admission": PURE | {"ipc", "linux", "rules", "lookup", "observe", "spawn", "pool"},
    "sessions": PURE | {"ipc", "rules", "lookup", "observe", "spawn", "pool", "admission"},
    "recovery": PURE | {"ipc", "observe", "spawn", "pool", "admission", "sessions"},
    "control": SHARED | {"lookup", "observe", "spawn", "pool", "admission", "sessions", "recovery"},
    "loop": SHARED | {"lookup", "observe", "control"},
    "web": PURE | {"ipc", "linux"},
    "config": PURE | {"ipc", "linux", "launcher", "tls", "forward", "rules"},
    "master": PURE | {"ipc", "linux", "launcher", "tls"},
    "tcpserver": PURE | {"linux", "launcher", "master", "tools"},
    "importers": PURE | {"rules", "config", "tcpserver"},
    "cli": PURE | {"ipc", "config", "importers", "rules", "master", "tools"},
    "command": {"cli", "tools", "tcpserver"},
    "__main__": {"command"},
}  # fmt: skip
"""What each folder, or module at the top, may import besides itself; those it imports stand above it."""

EXCEPTIONS = {
    ("master.trial", "config"),  # a process of its own, which tries what the reader will do
}

READERS = ("config.rule_variables", "config.certificates")
"""Processes that read for the master while a plan is in force."""

LOOP_ONLY = {
    "lookup", "observe", "roll_call", "spawn", "pool", "admission", "sessions", "recovery", "control", "loop",
}  # fmt: skip
"""What runs in the event loop's process, and nowhere else."""

ACTION = {
    "asyncio", "os", "socket", "select", "signal", "time", "subprocess", "logging", "yaml", "uvloop",
    "structlog", "threading", "multiprocessing", "pathlib",
}  # fmt: skip
IMPURE = {
    ("policy.exit_status", "signal"),  # the names of signals
    ("net.inet", "socket"),  # inet_pton(3) is there, and ten times as fast as anything else
    ("rules.bounds", "os"),  # reads a rules file when asked to
    ("rules.tcprules", "os"),  # compiles one, as tcprules(1) does
}

MAX_MODULE = 400
"""Lines of a module."""
MAX_CLASS = 200
"""Lines of a class."""
MAX_METHODS = 20
MAX_FUNCTION = 50
"""Lines of a function."""

TYPE = re.compile("_?[A-Z]+[a-z]")
"""How the name of a class or a type begins."""

LARGE = {
    "config.syntax._Source": "a method for each mistake that PyYAML reports, and their order",
}
"""Classes and functions that are larger than that, each with the reason."""


def folder(module: str) -> str:
    """Return the folder of a module, or the module itself where it stands at the top."""
    return module.partition(".")[0]


@functools.cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(tree(module)))


@functools.cache
def imports(module: str) -> list[tuple[str, str]]:
    """Return (module, name) of each import; name is empty where a module is imported as a whole."""
    found = []
    for node in nodes(module):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            found += [(node.module, alias.name) for alias in node.names]
    return found


@functools.cache
def own_imports(module: str) -> set[str]:
    """Return the modules of ucspid that a module imports, by their names here."""
    wanted = set()
    for name, item in imports(module):
        package, _, rest = name.partition(".")
        if package == "ucspid":
            wanted |= {rest, f"{rest}.{item}".lstrip("."), f"{rest}.__init__".lstrip(".")} & set(MODULES)
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


def test_every_folder_has_its_layer_and_imports_what_that_allows() -> None:
    assert {folder(module) for module in MODULES} == set(LAYERS)
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in own_imports(module)
        if folder(name) != folder(module)
        and folder(name) not in LAYERS[folder(module)]
        and (module, folder(name)) not in EXCEPTIONS
    ]
    assert wrong == []


def test_the_layers_have_no_cycle() -> None:
    order = list(LAYERS)
    for place, name in enumerate(order):
        assert LAYERS[name] <= set(order[:place]), name


@pytest.mark.parametrize("layer", ["plan", "net", "policy", "limits", "rules"])
def test_policy_acts_on_nothing(layer: str) -> None:
    for module in MODULES:
        if folder(module) == layer:
            allowed = {name for owner, name in IMPURE if owner == module}
            assert top_level(module) & ACTION - allowed == set(), module


def test_only_modules_of_the_loop_import_its_event_loop() -> None:
    users = {folder(module) for module in MODULES if top_level(module) & {"asyncio", "uvloop"}}
    assert users - LOOP_ONLY == {"web"}  # it has one of its own


@pytest.mark.parametrize(
    "role",
    ["master.start", "master.resume", "launcher.__main__", "config.__main__", *READERS],
)
def test_the_other_processes_need_nothing_of_the_loop(role: str) -> None:
    assert {folder(module) for module in needed(role)} & LOOP_ONLY == set()
    assert {name for module in needed(role) for name in top_level(module)} & {"asyncio", "uvloop"} == set()


def test_dataclasses_are_those_that_cost_little() -> None:
    assert {module for module in MODULES if "dataclasses" in top_level(module)} == {"records"}


def test_the_master_reads_no_yaml_and_has_no_threads() -> None:
    loaded = {name for module in needed("master.main") for name in top_level(module)}
    assert loaded & {"yaml", "msgspec", "structlog", "threading", "multiprocessing"} == set()
    assert not any(module.startswith("config.") for module in needed("master.main"))


def test_only_the_web_process_needs_what_is_optional() -> None:
    optional = {"aiohttp", "prometheus_client"}
    assert {module for module in MODULES if top_level(module) & optional} == {
        "web.main", "web.metrics", "web.server",
    }  # fmt: skip
    assert {folder(module) for module in needed("web.main")} & LOOP_ONLY == set()


def test_only_the_importer_needs_what_writes_yaml() -> None:
    users = {module for module in MODULES if "ruamel" in top_level(module)}
    assert users == {"importers.yaml_text"}
    daemon = {"cli.run", "loop", "master.start", "master.resume", "launcher.__main__", "config.__main__"}
    assert not users & set().union(*(needed(role) for role in daemon | {"config.rule_variables"}))


def test_only_what_reads_certificates_needs_what_parses_them() -> None:
    users = {module for module in MODULES if "cryptography" in top_level(module)}
    assert users == {"tls.certificates", "tls.described"}
    tls = {module for module in MODULES if module == "tls.main"}
    for role in {"loop", "master.start", "master.resume", "launcher.__main__", "config.rule_variables"} | tls:
        assert not users & needed(role), role


def test_only_tools_that_speak_tls_load_it_and_no_more_of_it_than_copies() -> None:
    """The others start in little more than the interpreter's time; ssl alone takes longer."""
    loaded = {tool: needed(path.removeprefix("ucspid.")) for tool, path in TOOLS.items()}
    secured = {"tlsclient", "https@"}
    for tool in TOOLS.keys() - NEED_PACKAGES - secured:
        assert not any(folder(module) == "tls" or "ssl" in top_level(module) for module in loaded[tool]), tool
    for tool in secured:
        modules = {module for module in loaded[tool] if folder(module) not in {"tools", "__init__"}}
        own = {"relay", "client_side", "program_side", "truncation", "variables"}
        assert modules == {f"tls.{module}" for module in own}


def test_the_loop_starts_no_process() -> None:
    for module in needed("loop"):
        assert "subprocess" not in top_level(module), module
        calls = {
            node.attr
            for node in nodes(module)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        }
        assert {name for name in calls if name.startswith(("fork", "posix_spawn", "exec", "system"))} == set()


def test_no_private_name_is_imported() -> None:
    for module in MODULES:
        assert [
            (module, name, item)
            for name, item in imports(module)
            if name.startswith("ucspid")
            and (item.startswith("_") or "._" in name)
            and not item.startswith("__")
        ] == []


def test_imports_are_absolute() -> None:
    for module in MODULES:
        assert all(not node.level for node in nodes(module) if isinstance(node, ast.ImportFrom))


def lines(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def too_large(module: str) -> Iterator[tuple[str, str]]:
    """Yield the classes and functions that are, each with how large."""
    for node in nodes(module):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) for item in node.body)
            if lines(node) > MAX_CLASS or methods > MAX_METHODS:
                yield f"{module}.{node.name}", f"{lines(node)} lines, {methods} methods"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines(node) > MAX_FUNCTION:
            yield f"{module}.{node.name}", f"{lines(node)} lines"


def test_nothing_grows_too_large() -> None:
    long = {module: len(FILES[module].read_text().splitlines()) for module in MODULES}
    assert {module: length for module, length in long.items() if length > MAX_MODULE} == {}
    large = dict(item for module in MODULES for item in too_large(module))
    assert {name: size for name, size in large.items() if name not in LARGE} == {}
    assert LARGE.keys() - large.keys() == set(), "not large any more: take them out of LARGE"


def types(module: str) -> Iterator[str]:
    """Yield the names of the classes that a module defines, and of its types: Name = Callable[...]."""
    for node in nodes(module):
        if isinstance(node, ast.ClassDef):
            yield node.name.lstrip("_")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and TYPE.match(node.id):
            yield node.id.lstrip("_")


def test_a_word_is_one_class_in_the_whole_package() -> None:
    places = collections.defaultdict(set)
    for module in MODULES:
        for name in types(module):
            places[name].add(module)
    assert {name: sorted(modules) for name, modules in places.items() if len(modules) > 1} == {}


def test_a_stage_is_a_module_and_one_line() -> None:
    """The pipeline names each in STAGES, and nothing else has to know of them."""
    package = "ucspid.admission.stages."
    stages = {f"ucspid.{module}" for module in MODULES if module.startswith("admission.stages.")}
    assert {make.__module__ for make in STAGES} == stages - {f"{package}__init__"}
    users = {
        module
        for module in MODULES
        for name, item in imports(module)
        if f"{name}.{item}".startswith(package) and (name in package or item == "make")
    }
    assert users == {"admission.pipeline"}


def test_every_module_is_of_use() -> None:
    roots = {
        "tls.main",
        "forward.main",
        "__main__",
        "journal_relay",
        "launcher.native.build",
        "launcher.native.wire_header",
        "command",
        "cli.main",
        "loop",
        "launcher.__main__",
        "config.__main__",
        "config.rule_variables",
        "config.certificates",
        "master.trial",
        "web.main",
    }
    roots |= {name for name in MODULES if name.startswith("cli.")}
    roots |= {path.removeprefix("ucspid.") for path in TOOLS.values()}
    used = set().union(*(needed(root) for root in roots))
    assert [module for module in MODULES if module not in used and not module.endswith("__init__")] == []


TESTS = Path(__file__).parents[1]
PRIVATE = {
    "unit": 14, "config": 0, "cli": 0, "loop": 23, "master": 7, "launcher": 13,
    "conformance": 0, "e2e": 1, "faults": 3, "support": 8,
}  # fmt: skip
"""How often tests in a folder use private names of the package, at most; it may only become less."""


@functools.cache
def private_names() -> set[str]:
    """Return the private names that the package gives to attributes, functions, classes and constants."""
    names = set()
    for module in MODULES:
        for node in nodes(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    return private - {"_", "_replace", "_make", "_actions"}  # the latter are the standard library's


def uses(path: Path, names: set[str]) -> Iterator[str]:
    """Yield where a file uses one of the names, of another object than self or as a text."""
    for node in ast.walk(ast.parse(path.read_text())):
        name = None
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            name = None if own else node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        if name in names:
            assert isinstance(node, ast.expr)
            yield f"{path.relative_to(TESTS)}:{node.lineno}: {name}"


@pytest.mark.parametrize("folder", PRIVATE)
def test_tests_use_what_is_public(folder: str) -> None:
    """A test that pins private names has to be changed with what it should leave free to change."""
    names = private_names()
    found = [use for path in (TESTS / folder).glob("*.py") for use in uses(path, names)]
    assert len(found) <= PRIVATE[folder], "\n".join(found)
