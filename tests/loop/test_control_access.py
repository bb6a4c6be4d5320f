"""Who may do what over the control socket."""

import os
import socket

import pytest

from others import NOBODY, as_other
from ucspid.control.access import ControlAccess, Rights, user_id

OWN = os.getuid()


def own_rights(access: ControlAccess) -> Rights:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert user_id(ours) == OWN
        return access.rights(ours)


def test_the_owner_may_do_everything() -> None:
    assert own_rights(ControlAccess(OWN)) is Rights.CHANGE
    assert own_rights(ControlAccess(OWN, 1, 0o000)) is Rights.CHANGE


@pytest.mark.skipif(OWN != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("group", "mode", "rights"),
    [
        (None, 0o600, Rights.NONE),
        (None, 0o660, Rights.NONE),
        (None, 0o602, Rights.LOOK),
        (None, 0o606, Rights.CHANGE),
        (7, 0o620, Rights.LOOK),
        (7, 0o640, Rights.NONE),
        (7, 0o660, Rights.CHANGE),
        (7, 0o606, Rights.NONE),
        (8, 0o660, Rights.CHANGE),
        (9, 0o660, Rights.NONE),
        (9, 0o662, Rights.LOOK),
    ],
)
def test_others_may_do_what_group_and_mode_say(group: int | None, mode: int, rights: Rights) -> None:
    """The peer's first group is 7, and 8 is a further one."""
    name = f"\0ucspid-{os.getpid()}"  # abstract: who may connect is not the question here
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()

        def connect() -> str:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(name)
            return "connected"

        assert as_other(7, [8], connect) == "connected"
        conn, _ = listening.accept()
        with conn:
            assert ControlAccess(0, group, mode).rights(conn) is rights
            assert user_id(conn) == NOBODY


def test_who_is_in_more_groups_than_can_be_asked_for_has_at_least_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ucspid.control.access._MAX_GROUPS", 0)
    assert own_rights(ControlAccess(OWN + 1, os.getgid(), 0o660)) is Rights.CHANGE
