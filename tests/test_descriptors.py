import os
import resource
import socket
from collections.abc import Iterator

import pytest

from ucspid.descriptors import ProgramLimit, raise_limit

SOFT = 100


def limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.fixture
def low() -> Iterator[list[int]]:
    """Return two descriptors to make copies at; the standard ones are null in a launcher, not here."""
    pair = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    yield pair
    for descriptor in pair:
        os.close(descriptor)


@pytest.fixture
def high() -> Iterator[socket.socket]:
    """Return a socket whose descriptor is above SOFT."""
    with socket.socket() as sock:
        os.dup2(sock.fileno(), 2 * SOFT)
        with socket.socket(fileno=2 * SOFT) as copy:
            yield copy


def test_the_programs_limit_is_in_force_around_a_start_only(low: list[int]) -> None:
    own, hard = before = limits()
    assert own > SOFT
    limit = ProgramLimit(SOFT, low)
    with limit:
        assert limits() == (SOFT, hard)
    assert limits() == before


def test_the_launchers_limit_comes_back_after_a_start_that_failed(low: list[int]) -> None:
    before = limits()
    with pytest.raises(FileNotFoundError), ProgramLimit(SOFT, low):
        raise FileNotFoundError
    assert limits() == before


def test_descriptors_that_a_start_would_refuse_are_copied_for_its_time(
    low: list[int], high: socket.socket
) -> None:
    limit = ProgramLimit(SOFT, low)
    client, stderr = limit.below([high.fileno(), 2])
    assert (client, stderr) == tuple(low)
    assert os.path.samestat(os.fstat(client), os.fstat(high.fileno()))
    assert os.path.samestat(os.fstat(stderr), os.fstat(2))
    assert not os.get_inheritable(client)
    with limit:
        pass
    assert not os.path.samestat(os.fstat(client), os.fstat(high.fileno()))


def test_other_descriptors_are_not_copied(low: list[int]) -> None:
    assert ProgramLimit(SOFT, low).below([1, 2]) == [1, 2]


def test_no_descriptor_is_copied_where_the_limits_are_the_same(low: list[int], high: socket.socket) -> None:
    assert ProgramLimit(limits()[0], low).below([high.fileno(), 2]) == [high.fileno(), 2]


def test_the_hard_limit_is_taken_and_the_soft_one_of_before_told() -> None:
    before = _, hard = limits()
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard))
    try:
        assert raise_limit() == SOFT
        assert limits() == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
