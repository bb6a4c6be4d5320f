"""The clients who wait for a reload or an upgrade: each is answered once, and there are never too many."""

import pytest

from ucspid.errors import ConfigError, ResourceError, WireError
from ucspid.ipc.orders import Answer
from ucspid.master.control_clients import MAX_CLIENTS, ControlClients


class Clients(ControlClients):
    def __init__(self) -> None:
        self.answers: list[Answer] = []
        super().__init__(self.answers.append)


def test_each_is_answered_once() -> None:
    clients = Clients()
    for token in (1, 2):
        clients.wait(clients.for_upgrade, token)
    clients.succeed(clients.for_upgrade, {"x": 1})
    clients.succeed(clients.for_upgrade, {"x": 2})
    clients.fail_all(ResourceError("no"))
    assert clients.answers == [Answer(token=token, result={"x": 1}) for token in (1, 2)]


@pytest.mark.parametrize(
    ("problem", "of_file"), [(ConfigError(["why"]), True), (ResourceError("why"), False)]
)
def test_a_failure_has_its_kind(problem: ConfigError | ResourceError, of_file: bool) -> None:
    clients = Clients()
    clients.wait(clients.for_next_reload, 7)
    clients.begin_reload()
    clients.fail(clients.for_reload, problem)
    assert clients.answers == [Answer(token=7, error="why", of_file=of_file)]


def test_who_waits_for_the_next_reload_does_not_wait_for_the_one_under_way() -> None:
    clients = Clients()
    clients.wait(clients.for_next_reload, 1)
    clients.begin_reload()
    clients.wait(clients.for_next_reload, 2)
    clients.succeed(clients.for_reload, {})
    assert [answer.token for answer in clients.answers] == [1]
    assert clients.for_next_reload == [2]


def test_more_than_a_loop_can_have_are_an_error_before_any_more_is_kept() -> None:
    clients = Clients()
    for token in range(1, MAX_CLIENTS + 1):
        clients.wait(clients.for_next_reload, token)
    with pytest.raises(WireError):
        clients.wait(clients.for_next_reload, 1000)
    assert len(clients.for_next_reload) == MAX_CLIENTS


def test_nobody_is_no_client() -> None:
    clients = Clients()
    for _ in range(2 * MAX_CLIENTS):
        clients.wait(clients.for_next_reload, 0)
    assert clients.for_next_reload == []


def test_whoever_is_forgotten_is_not_answered() -> None:
    clients = Clients()
    clients.wait(clients.for_next_reload, 1)
    clients.begin_reload()
    clients.wait(clients.for_next_reload, 2)
    clients.wait(clients.for_upgrade, 3)
    clients.forget()
    clients.fail_all(ResourceError("no"))
    assert clients.answers == []
