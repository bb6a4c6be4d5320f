"""The worked examples of CONTRIBUTING.md: their code, put into a copy of the package, does what they say."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import running
from installed import Installation
from reachable import reachable

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
PAGE = (TOP / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(
    r"^```python\n# src/ucspid/(?P<file>[^\s,]+)(?:, (?P<place>[^\n]+))?\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def insert(text: str, place: str, code: str) -> str:
    """Return a module with code at the end of it or of what it defines, or before that."""
    if place == "at the end":
        return f"{text}\n\n{code}"
    where, _, name = place.partition(" ")
    lines = text.splitlines(keepends=True)
    (node,) = (item for item in ast.parse(text).body if name in defined(item))
    assert node.end_lineno is not None
    if where == "before":
        at = node.lineno - 1
    elif isinstance(node, ast.ClassDef):
        last = next(item for item in reversed(node.body) if isinstance(item, ast.AnnAssign))
        assert last.end_lineno is not None
        at = last.end_lineno
    else:
        at = node.end_lineno - 1
    return "".join([*lines[:at], code, *lines[at:]])


def defined(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """The package with all examples in it."""
    with reachable() as folder:
        installation = Installation(folder)
        examples = list(BLOCK.finditer(PAGE))
        assert len(examples) == PAGE.count("```python")
        for example in examples:
            path = installation.package / example["file"]
            assert path.exists() == bool(example["place"]), path
            code = example["code"]
            path.write_text(insert(path.read_text(), example["place"], code) if example["place"] else code)
        yield installation


def run(installation: Installation, *arguments: str) -> str:
    command = [str(installation.python), "-I", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=30).stdout


def test_a_setting_and_a_stage(installation: Installation, tmp_path: Path) -> None:
    services = {
        name: {"listen": "127.0.0.1:0", "program": ["cat"], "reserved_port": reserved}
        for name, reserved in (("rlogin", True), ("echo", False))
    }
    with running(tmp_path, {"services": services}, command=installation.command) as daemon:
        assert daemon.talk("echo", b"x") == b"x"
        with daemon.connect("rlogin") as sock:
            assert sock.recv(1) == b""
        assert daemon.wait_event("connection_refused")["reason"] == "unreserved_port"
        assert daemon.service("rlogin")["refused"] == {"unreserved_port": 1}
    described = tmp_path / "configuration.md"
    made = [str(tmp_path / "schema.json"), str(described), str(tmp_path / "ucspid.yaml.5")]
    run(installation, "-m", "ucspid.config.reference", *made)
    assert "| `reserved_port` | " in described.read_text()


def test_an_event(installation: Installation) -> None:
    code = """
import structlog
from ucspid.observe import events
logger = structlog.make_filtering_bound_logger("debug")
log = structlog.wrap_logger(structlog.PrintLogger(), [structlog.processors.JSONRenderer()], logger)
events.clock_set(log, 2)
"""
    assert run(installation, "-c", code) == '{"seconds": 2, "event": "clock_set"}\n'
    assert "| `clock_set` | warning | `seconds` |" in PAGE


def test_a_message(installation: Installation) -> None:
    code = "from ucspid.ipc.messages import Renice; print(Renice.unpack(Renice(-5).pack()).nice)"
    assert run(installation, "-c", code) == "-5\n"
    for packet in ("b'('", "bytes(9)"):
        with pytest.raises(subprocess.CalledProcessError):
            run(installation, "-c", f"from ucspid.ipc.messages import Renice; Renice.unpack({packet})")
