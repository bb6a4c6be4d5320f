"""The control socket: for its owner alone, where no other daemon answers; the old one stays while it must."""

import os
import socket
import stat
from pathlib import Path

import pytest

from ucspid.errors import ResourceError
from ucspid.master.control_sockets import ControlSockets, close_control, open_control


def test_the_control_socket_is_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    mask = os.umask(0)
    try:
        with open_control(str(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(mask)


def test_the_control_socket_is_for_whom_its_group_and_mode_let_in(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    sockets = ControlSockets()
    group = os.getgroups()[-1] if os.getgroups() else os.getgid()
    sockets.add(sockets.acquire(path, group, 0o620))
    about = os.stat(path)
    assert (about.st_gid, stat.S_IMODE(about.st_mode)) == (group, 0o620)
    assert sockets.acquire(path, None, 0o600) == {}
    sockets.keep(path, None, 0o600)
    about = os.stat(path)
    assert (about.st_gid, stat.S_IMODE(about.st_mode)) == (os.getegid(), 0o600)
    os.unlink(path)
    sockets.keep(path, group, 0o620)
    sockets.keep(None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use any group")
def test_a_group_that_may_not_be_given_leaves_no_socket_behind(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot set who may use"):
        open_control(str(tmp_path / "control"), 0, 0o620)
    assert list(tmp_path.iterdir()) == []


def test_a_control_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    open_control(path).close()
    with open_control(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_control_socket_where_a_daemon_answers_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with open_control(path) as first:
        with pytest.raises(ResourceError, match="a server answers there already"):
            open_control(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            first.accept()[0].close()


def test_a_file_in_the_place_of_the_control_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_text("precious")
    with pytest.raises(ResourceError, match="not a socket"):
        open_control(str(path))
    assert path.read_text() == "precious"


def test_the_folder_of_the_control_socket_is_made(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "control"
    with open_control(str(path)):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0


def test_no_folder_is_made_for_the_folder_of_the_control_socket(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No such file or directory"):
        open_control(str(tmp_path / "missing" / "more" / "control"))
    assert list(tmp_path.iterdir()) == []


def test_the_one_of_before_stays_until_another_is_served(tmp_path: Path) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    sockets = ControlSockets()
    sockets.add(sockets.acquire(old))
    sockets.add(sockets.acquire(new))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(old)
    sockets.keep(new)
    assert sockets.at(old) is None
    assert not Path(old).exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(new)
    sockets.keep(None)
    assert not Path(new).exists()


def test_a_path_that_comes_back_before_another_was_served_is_the_same_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    sockets = ControlSockets()
    sockets.add(sockets.acquire(path))
    before = sockets.at(path)
    sockets.add(sockets.acquire(str(tmp_path / "other")))
    assert sockets.acquire(path) == {}
    assert sockets.at(path) is before
    sockets.keep(None)


def test_another_image_of_the_master_has_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    sockets = ControlSockets()
    sockets.add(sockets.acquire(path))
    again = ControlSockets.from_state(sockets.to_state())
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    sock = again.at(path)
    assert sock is not None
    sock.detach()
    sockets.keep(None)


def test_none_is_wanted_where_the_file_names_none() -> None:
    assert ControlSockets().acquire(None) == {}
    assert ControlSockets().at(None) is None


def test_a_path_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    sock = open_control(path)
    Path(path).unlink()
    close_control(path, sock)
