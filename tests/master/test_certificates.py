"""Certificates are followed: a renewed pair is in force, a bad one is not, and nothing else happens."""

import ctypes
import json
import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import certificates
import plans
from leaks import own_descriptors
from ucspid.ipc.orders import Order
from ucspid.linux import prctl
from ucspid.master import certificates as followed
from ucspid.master import roles
from ucspid.master.certificates import CertificateFollower
from ucspid.master.children import Children, reap_one
from ucspid.master.event_log import EventLog
from ucspid.master.expiries import DAY, Expiries
from ucspid.master.held_tls import TlsHoldings
from ucspid.master.poller import Poller
from ucspid.plan import CertificateFiles, Tls, TlsContext
from ucspid.tls.material import TlsMaterial, read
from ucspid.tls.report import SeenCertificate

_PR_SET_CHILD_SUBREAPER = 36
NAMES = ("one", "two", "three")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three certificates."""
    folder = tmp_path_factory.mktemp("made")
    certificates.make_authority(folder)
    for name in NAMES:
        certificates.make(folder, name)
    return folder


@pytest.fixture(autouse=True)
def _subreaper() -> Iterator[None]:
    """Have orphans below this process be its children, as they are the master's."""
    prctl.become_subreaper()
    yield
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Following:
    """A follower of certificates, and what it does."""

    def __init__(self, made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made, self.folder = made, folder
        self.poller, self.children, self.log = Poller(), Children(), EventLog()
        self.events: list[dict[str, Any]] = []
        self.log.to(lambda: self.log.send(self._add))
        self.looks = 0
        self.held = TlsHoldings()
        self.sent: list[dict[str, float]] = []
        self.renewed: list[tuple[str, ...]] = []
        start = roles.start_certificate_reader

        def counted(*descriptors: Any) -> int:
            self.looks += 1
            return start(*descriptors)

        monkeypatch.setattr(roles, "start_certificate_reader", counted)
        self.follower = CertificateFollower(
            self.children, self.poller, self.log, self.held, self._renew, self._send
        )

    def _add(self, event: dict[str, Any]) -> bool:
        self.events.append(event)
        return True

    def _send(self, _order: Order, descriptors: tuple[int, ...]) -> None:
        (memory,) = descriptors
        self.sent.append(json.loads(os.pread(memory, 10000, 0)))

    def _renew(self, material: int) -> None:
        if self.held.material is not None:
            os.close(self.held.material)
        self.held.material = material
        self.renewed.append(tuple(name for chain in self.in_force().chains for name in chain.names))

    def in_force(self) -> TlsMaterial:
        assert self.held.material is not None
        return read(self.held.material)

    def named(self, event: str) -> list[dict[str, Any]]:
        return [each["fields"] for each in self.events if each["event"] == event]

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.poller.call_in(0.005, lambda: None)  # a child's end is not what the poller waits for
            self.poller.run_once()
            while (exit_ := reap_one()) is not None:
                self.children.exited(exit_)

    def has_renewed(self, times: int) -> bool:
        return len(self.renewed) == times

    def at_rest(self) -> bool:
        return not self.children.expected

    def follow(self, *paths: Path | str) -> None:
        """Follow these, and wait until they are watched."""
        files = tuple(CertificateFiles(path=str(path)) for path in paths)
        tls = Tls(mode="implicit", context=TlsContext(certificates=files))
        self.follower.follow(plans.plan(plans.service("a", tls=tls), plans.service("b", tls=tls)))
        self.until(self.at_rest)

    def put(self, name: str, place: Path) -> None:
        """Have a certificate, with its key, in place of another at once."""
        new = place.with_name(f".{place.name}.new")
        shutil.copy(self.made / f"{name}.pem", new)
        new.rename(place)


@pytest.fixture
def following(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Following]:
    following = Following(made, tmp_path, monkeypatch)
    yield following
    following.follower.cancel()
    following.until(following.at_rest)
    following.children.close()
    if following.held.material is not None:
        os.close(following.held.material)


def test_what_is_in_force_is_said_once_and_a_renewed_file_is_in_force(following: Following) -> None:
    place = following.folder / "c.pem"
    following.put("one", place)
    following.follow(place)
    assert following.renewed == [("one",)]
    (loaded,) = following.named("certificates_loaded")
    assert (loaded["count"], loaded["names"]) == (1, ["one"])
    assert loaded["not_after"].endswith("Z")
    for number, name in enumerate(("two", "three"), 2):
        following.put(name, place)
        following.until(partial(following.has_renewed, number))
        assert following.renewed[-1] == (name,)
        assert following.named("certificates_loaded")[-1]["names"] == [name]
    assert {each["event"] for each in following.events} == {"certificates_loaded"}


def test_the_loop_is_sent_when_the_first_certificate_of_each_service_ends(following: Following) -> None:
    place = following.folder / "c.pem"
    following.put("one", place)
    following.follow(place)
    (ends,) = following.sent
    assert ends.keys() == {"a", "b"}
    printed = certificates.openssl(following.made, "x509", "-in", "one.crt", "-noout", "-enddate").decode()
    assert set(ends.values()) == {float(ssl.cert_time_to_seconds(printed.strip().partition("=")[2]))}
    following.follow(place)
    assert following.sent == [ends]
    following.follower.follow(plans.plan(plans.service("a")))
    assert following.sent == [ends, {}]


def test_the_same_as_before_changes_nothing(following: Following) -> None:
    place = following.folder / "c.pem"
    following.put("one", place)
    following.follow(place)
    following.follow(place)
    before = list(following.events)
    following.put("one", place)
    following.until(lambda: following.looks == 3 and following.at_rest())
    assert (following.renewed, following.events) == ([("one",)], before)


def test_what_does_not_matter_is_not_looked_at(following: Following) -> None:
    place = following.folder / "c.pem"
    following.put("one", place)
    following.follow(place)
    (following.folder / "other.pem").write_text("x")
    (following.folder / "other.pem").unlink()
    following.put("two", place)
    following.until(lambda: len(following.renewed) == 2)
    assert following.looks == 2


def test_a_pair_that_is_half_written_is_waited_for(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "AGAIN", 0.0)
    place = following.folder / "d"
    place.mkdir()
    shutil.copy(following.made / "one.crt", place / "fullchain.pem")
    shutil.copy(following.made / "one.key", place / "privkey.pem")
    following.follow(place)
    start = roles.start_certificate_reader

    def completed(*descriptors: Any) -> int:
        if following.looks == 2:  # the key comes between the first look and the second
            shutil.copy(following.made / "two.key", place / "privkey.pem")
        return start(*descriptors)

    monkeypatch.setattr(roles, "start_certificate_reader", completed)
    shutil.copy(following.made / "two.crt", place / "fullchain.pem")
    following.until(lambda: len(following.renewed) == 2)
    assert following.renewed[-1] == ("two",)
    assert following.named("certificates_failed") == []


def test_a_bad_one_leaves_the_old_in_force_and_says_why_once(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "AGAIN", 0.01)
    place = following.folder / "c.pem"
    following.put("one", place)
    following.follow(place)
    place.write_text("nonsense")
    following.until(lambda: following.named("certificates_failed"))
    assert following.named("certificates_failed") == [{"reason": f"{place}: no certificate in it"}]
    assert following.looks >= 3
    looks = following.looks
    (following.folder / "c.pem").touch()
    following.until(lambda: following.looks >= looks + 2 and following.at_rest())
    assert len(following.named("certificates_failed")) == 1
    assert following.renewed == [("one",)]
    following.put("two", place)
    following.until(lambda: len(following.renewed) == 2)
    place.unlink()
    following.until(lambda: len(following.named("certificates_failed")) == 2)
    assert following.named("certificates_failed")[1] == {"reason": f"{place}: No such file or directory"}
    assert following.in_force().chains[0].names == ("two",)


def test_the_links_of_certbot_are_followed(following: Following) -> None:
    root = following.folder
    for folder in ("live/one", "archive/one"):
        (root / folder).mkdir(parents=True)

    def renew(number: int, name: str) -> None:
        for kind, ending in (("fullchain", "crt"), ("privkey", "key")):
            shutil.copy(following.made / f"{name}.{ending}", root / f"archive/one/{kind}{number}.pem")
        for kind in ("fullchain", "privkey"):
            link = root / f"live/one/{kind}.pem"
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../archive/one/{kind}{number}.pem")

    renew(1, "one")
    following.follow(root / "live/*")
    renew(2, "two")
    following.until(lambda: len(following.renewed) == 2)
    (root / "live/three").mkdir()
    for kind, ending in (("fullchain", "crt"), ("privkey", "key")):
        shutil.copy(following.made / f"three.{ending}", root / f"live/three/{kind}.pem")
    following.until(lambda: len(following.renewed) == 3)
    shutil.rmtree(root / "live/one")
    following.until(lambda: len(following.renewed) == 4)
    assert following.renewed == [("one",), ("two",), ("two", "three"), ("three",)]


def test_a_directory_that_is_replaced_is_followed(following: Following) -> None:
    for folder, name in (("d", "one"), ("new", "two")):
        (following.folder / folder).mkdir()
        following.put(name, following.folder / folder / "c.pem")
    following.follow(following.folder / "d/c.pem")
    (following.folder / "d").rename(following.folder / "old")
    (following.folder / "new").rename(following.folder / "d")
    following.until(lambda: len(following.renewed) == 2)
    following.put("three", following.folder / "d/c.pem")
    following.until(lambda: len(following.renewed) == 3)
    assert following.renewed[1:] == [("two",), ("three",)]


def test_without_inotify_the_files_are_looked_at_now_and_then(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(followed, "POLLING", 0.01)
    monkeypatch.setattr("ucspid.master.certificate_watch.Inotify", none)
    place = following.folder / "c.pem"
    following.put("one", place)
    following.follow(place)
    following.put("two", place)
    following.until(lambda: len(following.renewed) == 2)
    (event,) = following.named("certificates_not_watched")
    assert event["reason"].startswith("no inotify: ")


def test_what_other_machines_may_change_is_looked_at_now_and_then(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "POLLING", 0.01)
    pipe = Path(f"/proc/{os.getpid()}/cwd")  # procfs is not a file system of which all changes are said
    monkeypatch.chdir(following.folder)
    following.put("one", following.folder / "c.pem")
    following.follow(pipe / "c.pem")
    looks = following.looks
    following.until(lambda: following.looks > looks + 1)
    (event,) = following.named("certificates_not_watched")
    assert "is on a file system that other machines may change" in event["reason"]


def test_a_look_that_is_not_possible_is_said_and_tried_again(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "POLLING", 0.01)
    start = roles.start_certificate_reader
    attempts = 0

    def refused(*descriptors: Any) -> int:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise OSError(11, "Resource temporarily unavailable")
        return start(*descriptors)

    monkeypatch.setattr(roles, "start_certificate_reader", refused)
    place = following.folder / "c.pem"
    following.put("one", place)
    following.follow(place)
    following.until(lambda: following.renewed)
    (event,) = following.named("certificates_failed")
    assert event["reason"].startswith("cannot start a reader of certificates")


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense", "echo '{}'", "echo '[]'", "kill -9 $$"])
def test_nothing_that_a_reader_says_or_dies_of_is_more_than_a_failed_look(
    following: Following, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    def nonsense(*descriptors: Any) -> int:
        output, errors = descriptors[-3:-1]
        files = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
        return os.posix_spawn("/bin/sh", ["sh", "-c", script], {}, file_actions=files, setsid=True)

    monkeypatch.setattr(roles, "start_certificate_reader", nonsense)
    following.follow(following.folder / "c.pem")
    (event,) = following.named("certificates_failed")
    assert event["reason"].startswith("they could not be read: ")


def test_a_look_that_hangs_is_ended_and_tried_again(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "TIMEOUT", 0.2)
    monkeypatch.setattr(followed, "POLLING", 0.01)

    def hangs(*_: Any) -> int:
        following.looks += 1
        return os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 600"], {}, setsid=True)

    monkeypatch.setattr(roles, "start_certificate_reader", hangs)
    following.follow(following.folder / "c.pem")
    following.until(lambda: following.looks > 1)
    (event,) = following.named("certificates_failed")
    assert event["reason"].startswith("they could not be read within")


def test_nothing_is_held_when_nothing_is_followed(following: Following) -> None:
    before = own_descriptors()
    place = following.folder / "c.pem"
    following.put("one", place)
    following.follow(place)
    following.put("two", place)
    following.until(lambda: len(following.renewed) == 2)
    following.put("one", place)
    following.until(lambda: following.looks == 3)
    following.follower.follow(plans.plan(plans.service("a")))  # in the middle of a look
    following.until(following.at_rest)
    assert following.held.material is not None
    assert own_descriptors() - before == {str(following.held.material)}


class Clock:
    """A poller and a clock whose time passes when a test says so."""

    def __init__(self) -> None:
        self.time = 1_000_000_000.0
        self.waiting: list[tuple[float, Any]] = []

    def call_in(self, seconds: float, callback: Callable[[], None]) -> Any:
        timer = Poller().call_in(seconds, callback)
        self.waiting.append((self.time + seconds, timer))
        return timer

    def go_on(self, seconds: float) -> None:
        self.time += seconds
        due, self.waiting = self.waiting, []
        for at, timer in due:
            if timer.callback is None:
                continue
            if at <= self.time:
                timer.callback()
            else:
                self.waiting.append((at, timer))


class Events(list[dict[str, Any]]):
    """The fields of events."""

    def add(self, event: dict[str, Any]) -> bool:
        self.append(event["fields"])
        return True


def seen(name: str, not_after: float) -> SeenCertificate:
    return SeenCertificate(path=f"/{name}.pem", names=(name,), not_after=not_after, fingerprint=name)


def test_a_certificate_near_its_end_is_reported_twice_once_each() -> None:
    clock, events, log = Clock(), Events(), EventLog()
    log.to(lambda: log.send(events.add))
    expiries = Expiries(clock, log, lambda: clock.time)  # type: ignore[arg-type]
    both = (seen("a", clock.time + 20 * DAY), seen("b", clock.time + 2 * DAY))
    expiries.set(both)
    assert [(event["certificate"], event["days"]) for event in events] == [("/b.pem", 2.0)]
    expiries.set(both)
    assert len(events) == 1
    clock.go_on(5.9 * DAY)
    assert len(events) == 1
    clock.go_on(0.2 * DAY)
    assert [(event["certificate"], event["days"]) for event in events[1:]] == [("/a.pem", 13.9)]
    clock.go_on(11 * DAY)
    assert [(event["certificate"], event["days"]) for event in events[2:]] == [("/a.pem", 2.9)]
    assert not [timer for _at, timer in clock.waiting if timer.callback is not None]
    clock.go_on(100 * DAY)
    assert len(events) == 3


def test_a_renewed_certificate_is_not_reported() -> None:
    clock, events, log = Clock(), Events(), EventLog()
    log.to(lambda: log.send(events.add))
    expiries = Expiries(clock, log, lambda: clock.time)  # type: ignore[arg-type]
    expiries.set([seen("a", clock.time + 20 * DAY)])
    clock.go_on(5 * DAY)
    expiries.set([seen("new", clock.time + 90 * DAY)])
    clock.go_on(20 * DAY)
    assert events == []
    expiries.cancel()
    clock.go_on(90 * DAY)
    assert events == []
