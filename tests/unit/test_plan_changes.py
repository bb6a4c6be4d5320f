"""What a reload says has changed."""

import pytest

from plans import plan, service
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Rate, Service
from ucspid.policy.plan_changes import changes
from ucspid.records import fields


def changed(**settings: object) -> list[str]:
    return changes(plan(service("a")), plan(service("a", **settings)))


def test_nothing() -> None:
    assert changes(plan(service("a")), plan(service("a"))) == []


def test_the_first_plan_adds_everything_and_changes_nothing() -> None:
    assert changes(None, plan(service("a"), service("b"), max_connections=7)) == [
        "a: added, listening on 127.0.0.1:0",
        "b: added, listening on 127.0.0.1:0",
    ]


def test_services_come_and_go() -> None:
    assert changes(plan(service("a"), service("b")), plan(service("b"), service("c"))) == [
        "a: removed",
        "c: added, listening on 127.0.0.1:0",
    ]


def test_a_listener() -> None:
    listen = (Endpoint("", 25), Endpoint("::1", 26))
    assert changed(listen=listen) == ["a: listen 127.0.0.1:0 -> *:25 [::1]:26"]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"max_connections": 7}, "a: max_connections 40 -> 7"),
        ({"argv": ("cat", "-u")}, "a: argv cat -> cat -u"),
        ({"max_per_ip": 3}, "a: max_per_ip none -> 3"),
        ({"refuse_message": "421 später\r\n"}, r'a: refuse_message none -> "421 später\r\n"'),
        ({"env": (("PASSWORD", "secret"),)}, "a: environment changed"),
        ({"max_connections": 7, "nodelay": True}, "a: max_connections 40 -> 7, nodelay False -> True"),
    ],
)
def test_a_setting(settings: dict[str, object], line: str) -> None:
    assert changed(**settings) == [line]


def test_privileges() -> None:
    profile = service("a").profile.changed(umask=0o77)
    assert changed(profile=profile) == ["a: privileges changed"]


@pytest.mark.parametrize("field", [field.name for field in fields(Service) if field.name != "name"])
def test_no_setting_changes_without_a_word(field: str) -> None:
    values: dict[str, object] = {
        "listen": (),
        "profile": service("a").profile.changed(uid=7),
        "rate": Rate(count=1, seconds=1.0, burst=1),
        "rate_per_ip": Rate(count=1, seconds=1.0, burst=1),
        "env": (("A", "B"),),
    }
    (line,) = changed(**{field: values.get(field, 77)})
    assert line.startswith("a: ")


def test_the_rest_of_the_file() -> None:
    assert changes(plan(), plan(uid=7, max_connections=3, control="/c")) == [
        "uid: none -> 7",
        "control: none -> /c",
        "max_connections: 1000 -> 3",
    ]
