"""What an event says of a refusal: the rule that denied, or the limit that was reached and for whom."""

from typing import Any

import pytest

from plans import service
from ucspid import plan
from ucspid.plan import Rate
from ucspid.policy.refusal_detail import refusal_detail
from ucspid.rules.rule import Rule


def settings(**changed: Any) -> plan.Service:
    return service("smtp", **changed)


def rule(**said: Any) -> Rule:
    return Rule(**{"verdict": "allow", "env": (), "where": "ucspid.yaml:12", **said})


@pytest.mark.parametrize(
    ("reason", "changed", "said", "fields"),
    [
        ("denied", {}, {"verdict": "deny"}, {"rule": "ucspid.yaml:12"}),
        ("denied", {}, {"where": "default"}, {"rule": "default_action"}),
        ("full", {"max_connections": 40}, None, {"allowed": 40}),
        ("rate", {"rate": Rate(count=8, seconds=3600.0, burst=8)}, None, {"allowed": "8/3600s"}),
        ("per_ip", {"max_per_ip": 4}, None, {"client": "192.0.2.7", "allowed": 4}),
        ("per_ip", {"max_per_ip": 4}, {}, {"client": "192.0.2.7", "allowed": 4}),
        (
            "per_ip", {"max_per_ip": 4, "ipv4_prefix": 24}, {"max_per_ip": 2},
            {"client": "192.0.2.0/24", "allowed": 2, "rule": "ucspid.yaml:12"},
        ),
        (
            "rate_per_ip", {"rate_per_ip": Rate(count=1, seconds=0.5, burst=2)}, None,
            {"client": "192.0.2.7", "allowed": "1/0.5s"},
        ),
        (
            "rate_per_ip", {}, {"rate_per_ip": Rate(count=1, seconds=60.0, burst=2)},
            {"client": "192.0.2.7", "allowed": "1/60s", "rule": "ucspid.yaml:12"},
        ),
        ("per_ip", {}, None, {"client": "192.0.2.7"}),
        ("no_rules", {}, None, {}),
        ("denied", {}, None, {}),
        ("closed", {"max_per_ip": 4}, {}, {}),
    ],
)  # fmt: skip
def test_the_fields_of_a_reason(
    reason: str, changed: dict[str, Any], said: dict[str, Any] | None, fields: dict[str, object]
) -> None:
    applied = None if said is None else rule(**said)
    assert refusal_detail(reason, "192.0.2.7", settings(**changed), applied) == fields
