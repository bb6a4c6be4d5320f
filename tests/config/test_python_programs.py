"""Programs in Python as the file has them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reachable import reachable
from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.plan import Preloaded, Service

Loaded = Callable[[str], Service]


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable() as folder:
        (folder / "program.py").touch()
        yield folder


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    """Load a file with one service of these keys."""

    def load_keys(keys: str) -> Service:
        path = folder / "f.yaml"
        path.write_text(f"services:\n  s: {{listen: 0, chdir: ., {keys}}}\n")
        (service,) = load(path).services
        return service

    return load_keys


def problems(loaded: Loaded, keys: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(keys)
    return [line.partition(" ")[2] for line in caught.value.problems]


def test_a_script_with_nothing_else(loaded: Loaded) -> None:
    service = loaded("python: program.py, env: {PATH: /usr/bin}")
    assert (service.executable, service.argv) == ("/usr/bin/python3", ("program.py",))
    assert service.preloaded == Preloaded(script="program.py")


def test_a_script_with_everything(loaded: Loaded, folder: Path) -> None:
    keys = "args: [-x, 1], preload: [email, xml.dom], interpreter: /usr/bin/python3, watch: true"
    service = loaded(f"python: {folder}/program.py, {keys}")
    assert (service.executable, service.argv) == ("/usr/bin/python3", (f"{folder}/program.py", "-x", "1"))
    wanted = Preloaded(script=f"{folder}/program.py", modules=("email", "xml.dom"), watch=True)
    assert service.preloaded == wanted


def test_a_function_of_a_module(loaded: Loaded) -> None:
    service = loaded("module: 'package.module:Class.function', args: [a], env: {PATH: /usr/bin}")
    assert service.argv == ("package.module:Class.function", "a")
    assert service.preloaded == Preloaded(module="package.module:Class.function")


@pytest.mark.parametrize("argv0", ["", ", argv0: x"])
def test_a_program_is_not_preloaded(loaded: Loaded, argv0: str) -> None:
    assert loaded(f"program: [/bin/sh]{argv0}").preloaded is None


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("stderr: log", "services.s: exactly one of program, python, module and forward is"),
        (
            "program: [/bin/sh], python: program.py",
            "services.s: exactly one of program, python, module and forward",
        ),
        ("program: [/bin/sh], args: [a]", "services.s.args: needs python or module"),
        ("program: [/bin/sh], preload: [a]", "services.s.preload: needs python or module"),
        ("program: [/bin/sh], interpreter: /bin/sh", "services.s.interpreter: needs python or module"),
        ("program: [/bin/sh], watch: true", "services.s.watch: needs python or module"),
        ("python: program.py, argv0: x", "services.s.argv0: needs program"),
        ("python: missing.py", "services.s.python: missing.py: no such file (looked for as "),
        ("python: .", "services.s.python: .: a directory"),
        ("python: program.py, interpreter: /no/python", "services.s.interpreter: /no/python: no such file"),
        ("python: program.py, env: {PATH: /none}", "services.s.interpreter: /none/python3: no such file"),
        ("module: a.b", "services.s.module: expected a function of a module, written as package.module:fun"),
        ("module: 'a-b:c'", "services.s.module: expected a function of a module"),
        ("module: 'a:b', preload: ['a/b']", "services.s.preload[0]: expected the name of a module such as"),
        ("python: ''", "services.s.python: expected a path"),
    ],
)
def test_mistakes(loaded: Loaded, keys: str, problem: str) -> None:
    found = problems(loaded, keys)
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
def test_a_script_that_its_user_cannot_read_is_a_mistake(loaded: Loaded, folder: Path) -> None:
    (folder / "program.py").chmod(0o600)
    (line,) = problems(loaded, "python: program.py, env: {PATH: /usr/bin}")
    assert line == "services.s.python: program.py: not readable (looked for as user nobody)"
