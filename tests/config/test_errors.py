from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiers import examples
from ucspid.config.load import load
from ucspid.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden" / "config"


WORDS = """
    user group groups log limits defaults services smtp listen program env inherit_env rlimits nofile rate
    burst exempt umask chdir chroot nice stderr << x
"""
KEYS = st.sampled_from(WORDS.split())
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 70_000),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(
            ["smtp", "*:25", "[::1]:25", "10.0.0.0/8", "60/min", "5s", "infinity", "root", "/bin/sh", "/"]
        ),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def attempt(path: Path) -> list[str]:
    try:
        load(path)
    except ConfigError as error:
        return error.problems
    return []


def mistakes(path: str | Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


def check_form(path: Path) -> None:
    """Assert that each mistake begins with its place, and that lines that show one are indented."""
    for problem in attempt(path):
        assert problem.startswith((f"{path}:", "    "))
        assert problem.isprintable()


def test_every_golden_file_has_its_mistakes_beside_it() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == {path.stem for path in GOLDEN.glob("*.txt")}
    assert len(list(GOLDEN.glob("*.yaml"))) > 20


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.yaml")))
def test_all_mistakes_of_a_file_are_found_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    assert mistakes(f"{name}.yaml") == (GOLDEN / f"{name}.txt").read_text().splitlines()


def test_a_file_that_cannot_be_read_is_a_mistake_too(tmp_path: Path) -> None:
    path = tmp_path / "missing.yaml"
    assert mistakes(path) == [f"{path}: No such file or directory"]
    assert mistakes(tmp_path) == [f"{tmp_path}: Is a directory"]


def test_arguments_and_environment_must_fit_one_message(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"services: {{s: {{listen: 0, program: [/bin/sh], env: {{A: {'x' * (97 << 10)}}}}}}}\n")
    (problem,) = mistakes(path)
    assert problem.startswith(f"{path}:1:36: services.s.program: arguments and environment take ")


def test_an_empty_program_name_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text('services: {s: {listen: 0, program: [""]}}\n')
    assert mistakes(path) == [f"{path}:1:37: services.s.program[0]: the name of the program is empty"]


@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(KEYS, VALUES, max_size=5) | VALUES)
def test_no_file_makes_loading_fail_otherwise(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    check_form(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_no_bytes_make_loading_fail_otherwise(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(data)
    check_form(path)
