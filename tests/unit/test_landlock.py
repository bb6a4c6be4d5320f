"""What is asked of each version of Landlock. The kernel is played here; test_confinement has the real one."""

import errno
import os
import struct

import pytest

from ucspid.linux import landlock

CREATE, ADD_RULE, RESTRICT = 444, 445, 446
BIND_TCP, CONNECT_TCP, BIND_UDP, SEND_UDP = 1, 2, 4, 8
FILES_OF_9, ALL_OF_NET, ALL_SCOPES = 0x1FFF3, 0b1111, 0b11


class Kernel:
    """A kernel that has a version, and that may refuse what a version of it should take."""

    def __init__(self, version: int, takes: int = 99) -> None:
        self.version = version
        self.takes = takes
        self.attributes: tuple[int, ...] = ()
        self.rules: set[tuple[int, ...]] = set()
        self.restricted = False

    def call(self, number: int, *arguments: bytes | int) -> int:
        if number == CREATE and arguments == (0, 0, 1):
            return self.version
        if number == CREATE:
            attributes, size, flags = arguments
            assert isinstance(attributes, bytes)
            assert isinstance(size, int)
            assert flags == 0
            self.attributes = struct.unpack(f"={size // 8}Q", attributes[:size])
            if self.attributes[0] > 1 << self.takes:
                raise OSError(errno.EINVAL, "attributes")
            self.rules = set()
            return os.open(os.devnull, os.O_RDONLY)
        if number == ADD_RULE:
            rule = arguments[2]
            assert isinstance(rule, bytes)
            self.rules.add(struct.unpack("=QQ", rule))
            return 0
        assert number == RESTRICT
        self.restricted = True
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Kernel:
    kernel = Kernel(*request.param)
    monkeypatch.setattr(landlock, "call", kernel.call)
    return kernel


@pytest.mark.parametrize("kernel", [(10,), (11,)], indirect=True)
def test_what_can_be_restricted_is(kernel: Kernel) -> None:
    assert landlock.restrict([53, 113], [53], bind=True) == 10
    assert kernel.attributes == (FILES_OF_9, ALL_OF_NET, ALL_SCOPES)
    assert kernel.rules == {
        (CONNECT_TCP, 53), (CONNECT_TCP, 113), (BIND_TCP, 0), (SEND_UDP, 53), (BIND_UDP, 0)
    }  # fmt: skip
    assert kernel.restricted


@pytest.mark.parametrize("kernel", [(10,)], indirect=True)
def test_a_loop_that_asks_nobody_has_no_port(kernel: Kernel) -> None:
    assert landlock.restrict([], [], bind=False) == 10
    assert kernel.rules == set()
    assert kernel.restricted


@pytest.mark.parametrize(
    ("kernel", "length", "rules"),
    [((1,), 1, set()), ((3,), 1, set()), ((4,), 2, {(CONNECT_TCP, 53), (BIND_TCP, 0)}),
     ((6,), 3, {(CONNECT_TCP, 53), (BIND_TCP, 0)})],
    indirect=["kernel"],
)  # fmt: skip
def test_an_older_kernel_is_asked_for_what_it_has(
    kernel: Kernel, length: int, rules: set[tuple[int, int]]
) -> None:
    assert landlock.restrict([53], [53], bind=True) == kernel.version
    assert len(kernel.attributes) == length
    assert kernel.rules == rules
    assert kernel.restricted


@pytest.mark.parametrize("kernel", [(10, 16)], indirect=True)
def test_a_kernel_that_does_not_take_all_of_its_version_is_asked_for_less(kernel: Kernel) -> None:
    """The newest versions are known from the kernel's headers only."""
    assert landlock.restrict([], [], bind=False) == 8
    assert kernel.restricted


@pytest.mark.parametrize("kernel", [(0,)], indirect=True)
def test_a_kernel_without_landlock_is_not_asked(kernel: Kernel) -> None:
    assert landlock.restrict([53], [53], bind=True) == 0
    assert not kernel.restricted
