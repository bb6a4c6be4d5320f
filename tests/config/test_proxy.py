"""The key proxy: what it makes of itself in a plan, and what is wrong with it."""

from pathlib import Path

import pytest

from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.plan import Proxy


def read(folder: Path, proxy: str) -> Proxy | None:
    """Return what a plan has of a service's key."""
    path = folder / "u.yaml"
    path.write_text(f"services: {{s: {{listen: 0, program: [sh], proxy: {proxy}}}}}\n")
    return load(str(path)).services[0].proxy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("null", None),
        ("{from: 192.0.2.1}", Proxy(from_=("192.0.2.1",))),
        ('{from: "unix:"}', Proxy(from_=("unix:",))),
        ('{from: ["10.0.0.0/8", "2001:DB8::/32"]}', Proxy(from_=("10.0.0.0/8", "2001:db8::/32"))),
        ("{from: 10.0.0.1, versions: 2}", Proxy(from_=("10.0.0.1",), versions=(2,))),
        ("{from: 10.0.0.1, versions: [2, 1, 2]}", Proxy(from_=("10.0.0.1",))),
        ("{from: 10.0.0.1, timeout: 500ms}", Proxy(from_=("10.0.0.1",), timeout=0.5)),
        ("{from: 10.0.0.1, others: direct}", Proxy(from_=("10.0.0.1",), others="direct")),
        ("{from: 10.0.0.1, max_pending: 7}", Proxy(from_=("10.0.0.1",), max_pending=7)),
    ],
)
def test_what_is_written_is_what_holds(tmp_path: Path, text: str, expected: Proxy | None) -> None:
    assert read(tmp_path, text) == expected


def test_a_default_holds_for_services_without_a_key_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "u.yaml").write_text(
        "defaults: {proxy: {from: 10.0.0.1}}\n"
        "services: {s: {listen: 0, program: [sh]}, t: {listen: 0, program: [sh], proxy: null}}\n"
    )
    first, second = load(str(tmp_path / "u.yaml")).services
    assert (first.proxy, second.proxy) == (Proxy(from_=("10.0.0.1",)), None)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{}", "services.s.proxy.from: required"),
        ("{from: []}", "services.s.proxy.from"),
        ("{from: balancer}", "services.s.proxy.from"),
        ("{from: 10.0.0.1/8}", "10.0.0.0/8"),
        ("{from: 10.0.0.1, versions: 3}", "services.s.proxy.versions"),
        ("{from: 10.0.0.1, versions: []}", "services.s.proxy.versions"),
        ("{from: 10.0.0.1, others: auto}", "services.s.proxy.others"),
        ("{from: 10.0.0.1, timeout: 2min}", "services.s.proxy.timeout"),
        ("{from: 10.0.0.1, max_pending: 0}", "services.s.proxy.max_pending"),
        ("{from: 10.0.0.1, trust: all}", "services.s.proxy.trust"),
        ("yes", "services.s.proxy"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    (problem,) = error.value.problems
    assert where in problem
