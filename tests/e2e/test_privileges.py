"""As whom everything runs: programs with exactly the privileges of their service, the loop with none."""

import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import contract
from daemon import Daemon, running
from folders import public_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give privileges away")

NOBODY = pwd.getpwnam("nobody")
UID, GID, OTHER = 64011, 64012, 64013
GROUPS = [64020, 64021]
RLIMITS = {
    "as": "1G",
    "core": 0,
    "cpu": 100,
    "data": "512M",
    "fsize": "1M",
    "memlock": "64k",
    "nofile": 99,
    "nproc": 500,
    "stack": "4M",
}
SHOWN = {
    "Max address space": (1 << 30, 1 << 30),
    "Max core file size": (0, 0),
    "Max cpu time": (100, resource.getrlimit(resource.RLIMIT_CPU)[1]),
    "Max data size": (512 << 20, 512 << 20),
    "Max file size": (1 << 20, 1 << 20),
    "Max locked memory": (64 << 10, 64 << 10),
    "Max open files": (99, 99),
    "Max processes": (500, 500),
    "Max stack size": (4 << 20, 4 << 20),
}
"""What /proc/PID/limits shows under RLIMITS: soft and hard."""
AS_UID = ["setpriv", f"--reuid={UID}", "--clear-groups"]
OPENS_STDERR = ["sh", "-c", "echo opened >/dev/stderr"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with public_folder(owner=0) as path:
        yield path


@pytest.fixture(scope="module")
def root(folder: Path) -> Path:
    """Return a root directory with cat and the libraries that it needs, and one file in a directory."""
    new_root = folder / "root"
    cat = shutil.which("cat") or ""
    needed = subprocess.run(["ldd", cat], capture_output=True, text=True, check=True, timeout=10).stdout
    for path in [cat, *(word for word in needed.split() if word.startswith("/"))]:
        copy = new_root / path.removeprefix("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (new_root / "inside").mkdir()
    (new_root / "inside" / "here").write_text("it is")
    return new_root


@pytest.fixture(scope="module")
def setuid_id(folder: Path) -> Path:
    """Return an id(1) that is setuid and setgid to OTHER."""
    path = folder / "id"
    shutil.copy(shutil.which("id") or "", path)
    os.chown(path, OTHER, OTHER)
    path.chmod(0o6755)
    return path


@pytest.fixture(scope="module")
def daemon(each_launcher: str, folder: Path, root: Path, setuid_id: Path) -> Iterator[Daemon]:
    """Return a daemon whose services report as whom their programs run."""
    mine = {"user": UID, "group": GID, "groups": GROUPS}
    setuid = [str(setuid_id)]
    services: dict[str, dict[str, Any]] = {
        "default": {"program": contract.STATUS},
        "another": {"program": ["cat"]},
        "root": {"program": contract.STATUS, "user": "root"},
        "own": {"program": contract.STATUS, **mine, "umask": "0027"},
        "few": {"program": contract.STATUS, **mine, "groups": []},
        "report": {"program": contract.REPORT, **mine, "chdir": "/usr", "nice": 19},
        "relative": {"program": contract.REPORT, "chdir": "."},
        "jailed": {"program": ["cat", "here"], "chroot": str(root), "chdir": "/inside"},
        "limited": {"program": ["cat", "/proc/self/limits"], **mine, "rlimits": RLIMITS},
        "unprivileged": {"program": contract.STATUS, "no_new_privs": True},
        "setuid": {"program": setuid, **mine},
        "tame": {"program": setuid, **mine, "no_new_privs": True},
        "opens": {"program": OPENS_STDERR},
        "changes": {
            "program": ["setpriv", f"--reuid={UID}", "--clear-groups", *OPENS_STDERR],
            "user": "root",
        },
    }
    config = {
        "launcher": each_launcher,
        "user": "nobody",
        "services": {name: {"listen": "127.0.0.1:0", **given} for name, given in services.items()},
    }
    with running(folder, config) as started:
        yield started


def status_of(daemon: Daemon, service: str) -> dict[str, str]:
    with daemon.connect(service) as sock:
        return contract.status(sock)


def status_of_process(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def ids(number: int) -> str:
    """Return how /proc shows a real, effective, saved and file system id that are all the same."""
    return "\t".join([str(number)] * 4)


# Programs


def test_a_service_without_a_user_runs_as_the_users_of_the_file_and_never_as_root(daemon: Daemon) -> None:
    fields = status_of(daemon, "default")
    assert (fields["Uid"], fields["Gid"]) == (ids(NOBODY.pw_uid), ids(NOBODY.pw_gid))
    assert set(fields["Groups"].split()) == set(map(str, os.getgrouplist("nobody", NOBODY.pw_gid)))
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}


@pytest.mark.parametrize("service", ["opens", "changes"])
def test_programs_of_other_users_can_open_their_standard_error(daemon: Daemon, service: str) -> None:
    daemon.talk(service)
    assert daemon.wait_event("program_stderr", service=service)["line"] == "opened"


def test_root_where_the_file_says_so_stays_root(daemon: Daemon) -> None:
    fields = status_of(daemon, "root")
    assert (fields["Uid"], fields["Gid"]) == (ids(0), ids(0))
    assert int(fields["CapEff"], 16) == int(status_of_process(os.getpid())["CapEff"], 16)


def test_a_program_has_the_user_group_groups_and_umask_of_its_service(daemon: Daemon) -> None:
    fields = status_of(daemon, "own")
    assert (fields["Uid"], fields["Gid"], fields["Groups"]) == (ids(UID), ids(GID), "64020 64021")
    assert fields["Umask"] == "0027"
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status_of(daemon, "few")["Groups"] == ""


def test_a_program_has_the_directory_and_niceness_of_its_service(daemon: Daemon, folder: Path) -> None:
    with daemon.connect("report") as sock:
        reported = contract.report(sock)
    assert (reported["cwd"], reported["nice"]) == ("/usr", 19)
    with daemon.connect("relative") as sock:
        reported = contract.report(sock)
    assert (reported["cwd"], reported["nice"]) == (str(folder.resolve()), os.getpriority(os.PRIO_PROCESS, 0))


def test_a_program_has_the_resource_limits_of_its_service(daemon: Daemon) -> None:
    lines = daemon.talk("limited").decode().splitlines()
    shown = {line[:26].strip(): tuple(line[26:].split()[:2]) for line in lines}
    expected = {name: tuple(map(in_words, pair)) for name, pair in SHOWN.items()}
    assert {name: shown[name] for name in expected} == expected


def in_words(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def test_a_program_sees_the_root_directory_of_its_service(daemon: Daemon) -> None:
    assert daemon.talk("jailed") == b"it is"


def test_a_setuid_program_gains_privileges_unless_the_service_forbids_it(
    daemon: Daemon, folder: Path
) -> None:
    if os.statvfs(folder).f_flag & os.ST_NOSUID:
        pytest.skip(f"{folder} is on a file system that is mounted nosuid")
    assert f"euid={OTHER} egid={OTHER}" in daemon.talk("setuid").decode()
    tame = daemon.talk("tame").decode()
    assert tame.startswith(f"uid={UID} gid={GID} groups=")
    assert "euid" not in tame


def test_new_privileges_are_forbidden_where_the_file_says_so(daemon: Daemon) -> None:
    services = ("default", "unprivileged")
    assert [status_of(daemon, service)["NoNewPrivs"] for service in services] == ["0", "1"]


# The daemon's own processes


def test_the_event_loop_is_an_ordinary_user_without_capabilities(daemon: Daemon) -> None:
    (loop,) = daemon.processes("loop")
    fields = status_of_process(loop["pid"])
    assert (fields["Uid"], fields["Gid"]) == (ids(NOBODY.pw_uid), ids(NOBODY.pw_gid))
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    assert "0" not in fields["Groups"].split()


def test_a_launcher_has_the_privileges_of_its_programs(daemon: Daemon) -> None:
    users = {"default": NOBODY.pw_uid, "root": 0, "own": UID, "few": UID, "tame": UID}
    launchers = {name: item["pid"] for item in daemon.processes("launcher") for name in item["services"]}
    fields = {name: status_of_process(launchers[name]) for name in users}
    assert {name: field["Uid"] for name, field in fields.items()} == {
        name: ids(uid) for name, uid in users.items()
    }
    assert fields["few"]["Groups"] == ""
    assert [fields[name]["NoNewPrivs"] for name in ("own", "tame")] == ["0", "1"]


def test_services_with_the_same_privileges_share_a_launcher_and_others_do_not(daemon: Daemon) -> None:
    launchers = {name: item["pid"] for item in daemon.processes("launcher") for name in item["services"]}
    assert launchers.keys() == daemon.config["services"].keys()
    assert launchers["default"] == launchers["another"]
    assert len({launchers[name] for name in ("default", "root", "own", "few", "tame")}) == 5


# Privileges that cannot be had


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"chdir": "/nowhere"}, "services.a.chdir: cannot be set as user nobody: /nowhere: No such file"),
        ({"chroot": "/nowhere"}, "services.a.chroot: cannot be set as user nobody: /nowhere: No such file"),
        ({"user": UID}, f"services.a.user: user id {UID} is not in passwd(5): give its group too"),
    ],
)
def test_privileges_that_cannot_be_had_are_mistakes_in_the_file(
    tmp_path: Path, settings: dict[str, Any], text: str
) -> None:
    daemon = Daemon(tmp_path, {"services": {"a": {"listen": "127.0.0.1:0", "program": ["cat"], **settings}}})
    assert daemon.start(ready=False).wait() == 100
    assert [line for line in daemon.stderr if text in line]


@pytest.mark.parametrize(
    ("capability", "key"),
    [("setuid", "user"), ("setgid", "groups"), ("sys_chroot", "chroot"), ("sys_nice", "nice")],
)
def test_a_root_that_may_not_give_privileges_away_does_not_start(
    tmp_path: Path, root: Path, capability: str, key: str
) -> None:
    service = {"listen": "127.0.0.1:0", "program": ["cat"], "chroot": str(root), "nice": -5}
    daemon = Daemon(tmp_path, {"services": {"a": service}})
    command = ["setpriv", f"--bounding-set=-{capability}", sys.executable, "-m", "ucspid"]
    assert daemon.start(ready=False, command=command).wait() == 100
    assert [line for line in daemon.stderr if f"services.a.{key}: cannot be set as user nobody" in line]


def test_a_launcher_that_cannot_take_its_privileges_again_says_why_and_is_tried_until_it_can(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    service = {"listen": "127.0.0.1:0", "program": ["cat"]}
    config = {"services": {"well": service, "unlucky": {**service, "chdir": str(directory)}}}
    with running(tmp_path, config) as daemon:
        directory.rmdir()
        (launcher,) = (item for item in daemon.processes("launcher") if item["services"] == ["unlucky"])
        os.kill(launcher["pid"], signal.SIGKILL)
        refused = daemon.wait_event("launcher_refused", services="unlucky")
        assert refused["reason"] == f"{directory}: No such file or directory"
        assert daemon.talk("well", b"still here") == b"still here"
        directory.mkdir()
        assert daemon.talk("unlucky", b"here again") == b"here again"
