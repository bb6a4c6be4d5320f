"""Unix sockets of listeners: who gets in, what is removed, and what never is."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager import Manager
from plans import service
from ucspid.errors import ResourceError
from ucspid.master import unix_sockets
from ucspid.master.fdstore import Passed, name
from ucspid.master.listener_table import ListenerTable
from ucspid.master.listeners import HeldListener, Key, address_of, listens_on
from ucspid.net.endpoint import Endpoint
from ucspid.net.unix import SocketFile
from ucspid.plan import Service
from ucspid.records import replace

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "s.sock"


def at(path: Path, **access: int) -> Service:
    """Return a service that listens at a path."""
    return service(
        "a",
        listen=(Endpoint(f"unix:{path}", 0),),
        socket_files=(SocketFile(path=str(path), **access),),
        backlog=5,
    )


def acquired(its_service: Service, passed: Passed | None = None) -> HeldListener:
    """Have a table acquire the listener of a service, as the master does."""
    found: dict[Key, list[HeldListener]] = {}
    assert ListenerTable(passed).acquire([its_service], found) == []
    ((listening,),) = found.values()
    return listening


@pytest.fixture
def held(path: Path) -> Iterator[tuple[ListenerTable, Service]]:
    """A table that holds the listener of a service."""
    table, found = ListenerTable(), dict[Key, list[HeldListener]]()
    its_service = at(path)
    table.acquire([its_service], found)
    table.add(found)
    yield table, its_service
    table.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def reaches(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_it_listens_with_the_permissions_of_the_file_whatever_the_mask_is(path: Path) -> None:
    mask = os.umask(0o077)
    try:
        listening = acquired(at(path))
        limited = acquired(at(path.with_name("other"), mode=0o640))
    finally:
        assert os.umask(mask) == 0o077
    assert (mode_of(path), mode_of(path.with_name("other"))) == (0o666, 0o640)
    assert not listening.sock.getblocking()
    assert not listening.sock.get_inheritable()
    assert reaches(path)
    assert str(address_of(listening.sock)) == f"unix:{path}"
    listening.close()
    limited.close()
    assert not path.exists()


def test_nobody_gets_in_before_the_permissions_are_set(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    change = os.chmod

    def look(target: str, mode: int) -> None:
        seen.append((mode_of(path), reaches(path)))
        change(target, mode)

    monkeypatch.setattr(os, "chmod", look)
    acquired(at(path)).close()
    assert seen == [(0o600, False)]


@as_root
def test_its_owner_is_the_one_of_the_file_and_a_reload_changes_it(
    held: tuple[ListenerTable, Service], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, its_service = held
    change = os.chmod

    def by_its_owner(target: str, mode: int) -> None:
        assert path.stat().st_uid == os.geteuid(), "chmod(2) would need CAP_FOWNER"
        change(target, mode)

    monkeypatch.setattr(os, "chmod", by_its_owner)
    changed = SocketFile(path=str(path), mode=0o660, uid=65534, gid=12)
    table.set_up([replace(its_service, socket_files=(changed,))])
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (65534, 12, 0o660)
    table.set_up([its_service])
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (0, os.getegid(), 0o666)


def test_a_socket_that_nobody_has_open_is_replaced(path: Path) -> None:
    left = acquired(at(path))
    left.sock.close()
    assert path.is_socket()
    listening = acquired(at(path))
    assert reaches(path)
    listening.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_somebody_has_open_is_not(path: Path, kind: int) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind == socket.SOCK_STREAM:
            other.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as waits:
            waits.connect_ex(str(path))  # of which the queue is full
            with pytest.raises(ResourceError) as caught:
                acquired(at(path))
    assert str(caught.value) == f"a: cannot listen on unix:{path}: a server answers there already"
    assert path.is_socket()


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_is_no_socket_is_never_removed(path: Path, what: str) -> None:
    path.parent.mkdir()
    stale = path.with_name("stale")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(stale))
    if what == "file":
        path.write_text("precious")
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(stale)
    with pytest.raises(ResourceError, match=f"a: cannot listen on unix:{path}: {path} exists, but is not a"):
        acquired(at(path))
    assert os.path.lexists(path)
    assert stale.is_socket()


def test_what_somebody_has_put_in_its_place_is_left_there(
    held: tuple[ListenerTable, Service], path: Path
) -> None:
    table, its_service = held
    path.unlink()
    path.write_text("another's")
    path.chmod(0o600)
    table.set_up([its_service])
    table.keep([])
    assert (path.read_text(), mode_of(path)) == ("another's", 0o600)


def test_what_is_put_in_its_place_at_once_is_not_made_ours(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by whoever owns the directory: no file gets the permissions that were for the socket."""
    precious = tmp_path / "precious"
    precious.touch(0o600)
    bound = unix_sockets.bound

    def swapped(name: str) -> socket.socket:
        sock = bound(name)
        path.unlink()
        path.hardlink_to(precious)
        return sock

    monkeypatch.setattr(unix_sockets, "bound", swapped)
    with pytest.raises(ResourceError, match="is not what was made there"):
        acquired(at(path))
    assert mode_of(precious) == mode_of(path) == 0o600


def test_it_is_removed_when_the_plan_has_it_no_more(held: tuple[ListenerTable, Service], path: Path) -> None:
    table, its_service = held
    table.keep([its_service])
    assert reaches(path)
    table.keep([])
    assert not os.path.lexists(path)


def test_it_is_removed_when_the_daemon_stops(held: tuple[ListenerTable, Service], path: Path) -> None:
    held[0].close()
    assert not os.path.lexists(path)


def test_the_next_image_of_the_master_has_it_and_removes_it(
    held: tuple[ListenerTable, Service], path: Path
) -> None:
    table, its_service = held
    ((address, name_of, place, number, file, descriptor),) = table.to_state()
    assert (address, name_of, place) == (Endpoint(f"unix:{path}", 0), "", 0)
    following = ListenerTable.from_state([(address, name_of, place, number, file, os.dup(descriptor))])
    assert [item.number for item in following.of(its_service)] == [item.number for item in table]
    following.keep([])
    assert not os.path.lexists(path)


def test_in_the_abstract_namespace_it_has_no_path() -> None:
    its_service = service("a", listen=(Endpoint(f"unix:@ucspid-test-{os.getpid()}", 0),))
    listening = acquired(its_service)
    with pytest.raises(ResourceError, match="Address already in use"):
        acquired(its_service)
    assert str(address_of(listening.sock)) == str(its_service.listen[0])
    listening.close()


@pytest.mark.parametrize("stored", [False, True])
def test_one_that_is_passed_is_taken_by_its_path(path: Path, stored: bool) -> None:
    """That of a socket unit is the service manager's to remove; one from the store is ours."""
    first = acquired(at(path, mode=0o600))
    key = Endpoint(f"unix:{path}", 0), "", 0
    assert name(key) == f"unix_{path}"
    passed = Passed([(name(key) if stored else "any.socket", first.sock.dup())])
    first.sock.close()
    assert reaches(path)
    listening = acquired(at(path, mode=0o640), passed)
    assert passed.close() == []
    assert mode_of(path) == (0o640 if stored else 0o600)
    assert reaches(path)
    listening.close()
    assert os.path.lexists(path) != stored


def test_one_that_is_passed_and_whose_path_is_gone_is_bound_anew(path: Path) -> None:
    first = acquired(at(path))
    passed = Passed([("any.socket", first.sock.dup())])
    first.close()
    listening = acquired(at(path), passed)
    assert reaches(path)
    assert passed.close() == [f"unix:{path}"]
    listening.close()


def test_a_socket_is_known_by_its_path(path: Path) -> None:
    listening = acquired(at(path))
    assert listens_on(listening.sock, Endpoint(f"unix:{path}", 0))
    assert not listens_on(listening.sock, Endpoint(f"unix:{path}2", 0))
    assert not listens_on(listening.sock, Endpoint("", 0))
    listening.close()


def test_one_that_a_process_of_the_loop_has_shut_down_listens_again(
    held: tuple[ListenerTable, Service], path: Path
) -> None:
    table, its_service = held
    (listening,) = table.of(its_service)
    listening.restore(its_service)
    assert reaches(path)
    listening.sock.shutdown(socket.SHUT_RDWR)
    assert not reaches(path)
    listening.restore(its_service)
    assert reaches(path)
    table.keep([])
    assert not os.path.lexists(path)


def test_one_of_the_abstract_namespace_that_was_shut_down_listens_again() -> None:
    name = f"ucspid-again-{os.getpid()}"
    its_service = service("a", listen=(Endpoint(f"unix:@{name}", 0),), backlog=5)
    listening = acquired(its_service)
    listening.sock.shutdown(socket.SHUT_RDWR)
    listening.restore(its_service)
    with socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(f"\0{name}") == 0
    assert listens_on(listening.sock, its_service.listen[0])
    listening.close()


def left_in_the_store(manager: Manager, path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Have a master listen and end; return what the service manager keeps, as it passes it to the next."""
    for variable, value in manager.start()["env"].items():
        monkeypatch.setenv(variable, value)
    table, found = ListenerTable(), dict[Key, list[HeldListener]]()
    table.acquire([at(path)], found)
    table.add(found)
    manager.wait(f"unix_{path}")
    table.close()
    return socket.socket(fileno=os.dup(manager.stored[0][1]))


def test_at_the_end_the_path_stays_for_the_next_master_if_the_service_manager_keeps_the_socket(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Manager(tmp_path) as manager:
        kept = left_in_the_store(manager, path, monkeypatch)
        assert reaches(path)
        following, found = ListenerTable(Passed([(f"unix_{path}", kept)])), dict[Key, list[HeldListener]]()
        following.acquire([at(path)], found)
        following.add(found)
        following.keep([])
        manager.wait()
        assert not os.path.lexists(path)


def test_one_that_was_shut_down_and_kept_by_the_service_manager_is_made_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Manager(tmp_path) as manager:
        kept = left_in_the_store(manager, path, monkeypatch)
        kept.shutdown(socket.SHUT_RDWR)  # as a process of the loop may, and we are not told
        following, found = ListenerTable(Passed([(f"unix_{path}", kept)])), dict[Key, list[HeldListener]]()
        last = tmp_path / "last"
        following.acquire([at(path), at(last)], found)
        following.add(found)
        assert reaches(path)
        (listening,) = following.of(at(path))
        manager.wait(f"unix_{path}", f"unix_{last}")
        assert any(os.path.sameopenfile(own, listening.sock.fileno()) for _name, own in manager.stored)
        following.keep([])
