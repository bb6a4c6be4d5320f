import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from ucspid.config import schema
from ucspid.config.logs import LogSection
from ucspid.config.lookups import LookupSection
from ucspid.config.proxies import ProxySection
from ucspid.config.reference import main, reference_manual, reference_markdown, schema_json
from ucspid.config.rlimits import Rlimits
from ucspid.config.shapes import record
from ucspid.config.tls_keys import CertificateSection, TlsDefaults, TlsSection
from ucspid.linux.privileges import RLIMITS

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parents[1] / "golden" / "config" / "example" / "ucspid.yaml"
STRUCTS = [
    *(
        schema.File,
        LogSection,
        schema.LimitsSection,
        schema.SettingsSection,
        schema.ServiceSection,
        Rlimits,
    ),
    *(schema.RuleSection, LookupSection, ProxySection, TlsDefaults, TlsSection, CertificateSection),
]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    document = json.loads(schema_json())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.fixture
def example() -> Any:
    return yaml.safe_load(EXAMPLE.read_text())


def test_the_schema_shipped_is_in_step_with_the_definitions() -> None:
    assert (ROOT / "src/ucspid/config/ucspid.schema.json").read_text() == schema_json()


def test_the_page_is_in_step_with_the_definitions() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == reference_markdown()


def test_the_manual_page_is_in_step_with_the_definitions() -> None:
    assert (ROOT / "docs/man/ucspid.yaml.5").read_text() == reference_manual()


def test_all_are_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / name) for name in ("schema", "page", "manual")]) == 0
    assert (tmp_path / "schema").read_text() == schema_json()
    assert (tmp_path / "page").read_text() == reference_markdown()
    assert (tmp_path / "manual").read_text() == reference_manual()
    assert main([]) == 100
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_key_is_described_and_on_the_page(struct: type[msgspec.Struct]) -> None:
    for field in record(struct).fields.values():
        assert field.description.endswith(".")
        assert f"| `{field.key}` |" in reference_markdown()
        assert f'\n.It "\\fB{field.key}\\fR"\n' in reference_manual()


def test_every_limit_of_the_system_can_be_set() -> None:
    assert set(record(Rlimits).fields) == set(RLIMITS) - {"ofile"}


def test_the_schema_accepts_the_example(
    validator: jsonschema.Draft202012Validator, example: dict[str, Any]
) -> None:
    validator.validate(example)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("usr", "nobody"),
        ("log.levle", "info"),
        ("log.level", "warn"),
        ("limits.max_connections", 0),
        ("defaults.listen", 25),
        ("defaults.max_per_ipp", 1),
        ("services.smtp.max_per_ipp", 1),
        ("services.smtp.program", "/bin/sh -c x"),
        ("services.smtp.program", []),
        ("services.smtp.listen", "::1"),
        ("services.smtp.listen", 65536),
        ("services.smtp.listen", [[25]]),
        ("services.smtp.rate", "60"),
        ("services.smtp.drain_timeout", "5x"),
        ("services.smtp.umask", "22"),
        ("services.smtp.stderr", "logg"),
        ("services.smtp.exempt", ["localhost"]),
        ("services.smtp.env", {"A=B": "x"}),
        ("services.smtp.env", {"A": []}),
        ("services.smtp.rlimits", {"open": 5}),
        ("services.smtp.rlimits", {"nofile": 5}),
        ("services.smtp.rules", {"deny": True}),
        ("services.smtp.rules", [{"from": "192.0.2.1"}]),
        ("services.smtp.rules", [{"allow": True, "deny": True}]),
        ("services.smtp.rules", [{"allow": False}]),
        ("services.smtp.rules", [{"allow": True, "from": []}]),
        ("services.smtp.lookup", {"timeout": 61}),
        ("services.smtp.lookup", {"local_host": ""}),
        ("services.smtp.env_dialect", "tcp7"),
        ("services.smtp.default_action", "maybe"),
        ("services.SMTP", {"listen": 25, "program": ["/bin/sh"]}),
        ("services.pop3", {"listen": 25}),
        ("services", {}),
    ],
)
def test_the_schema_refuses_mistakes(
    validator: jsonschema.Draft202012Validator, example: dict[str, Any], path: str, value: Any
) -> None:
    *steps, last = path.split(".")
    place = example
    for step in steps:
        place = place.setdefault(step, {})
    place[last] = value
    assert not validator.is_valid(example)


@pytest.mark.parametrize("value", [True, 1.5, -0.0, None, 7])
def test_the_schema_accepts_what_is_text_as_it_stands(
    validator: jsonschema.Draft202012Validator, example: dict[str, Any], value: Any
) -> None:
    example["services"]["smtp"]["program"] = ["sh", value]
    example["services"]["smtp"]["env"] = {"A": value}
    if value is not None:
        example["services"]["smtp"] |= {"chdir": value, "refuse_message": value}
    validator.validate(example)


def test_the_schema_knows_the_defaults() -> None:
    settings = json.loads(schema_json())["$defs"]["SettingsSection"]["properties"]
    assert settings["umask"]["default"] == "022"
    assert settings["drain_timeout"]["default"] == "30s"
    assert settings["max_connections"]["default"] == 40
    assert settings["max_per_ip"]["default"] is None


def test_the_schema_accepts_all_ways_to_write_rules(
    validator: jsonschema.Draft202012Validator, example: dict[str, Any]
) -> None:
    for rules in ("smtp.cdb", [], None, [{"deny": None}, {"allow": True, "from": "*"}]):
        example["services"]["smtp"]["rules"] = rules
        validator.validate(example)


def test_a_word_that_is_there_or_not_has_no_default() -> None:
    rule = json.loads(schema_json())["$defs"]["RuleSection"]["properties"]
    assert "default" not in rule["allow"]
    assert "| `allow` | yes, or no value |  | " in reference_markdown()
