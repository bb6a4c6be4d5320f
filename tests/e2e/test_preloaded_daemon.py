"""Preloaded programs under the real daemon: reloads, changed files, errors, privileges, deaths."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, running, wait_gone
from folders import public_folder
from ucspid.errors import EXIT_USAGE, ConfigError

ECHO = "import sys\nsys.stdout.write({words!r} + ':' + sys.stdin.read())\n"
WAITS = "import sys\nprint({words!r}, flush=True)\nsys.stdin.read()\n"
PYTHON = {"interpreter": "/usr/bin/python3"}
"""One that every user can execute."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give privileges away")


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


def service(**settings: Any) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "python": "program.py", "chdir": ".", **PYTHON, **settings}


def services(**settings: Any) -> dict[str, Any]:
    return {"services": {"smtp": service(**settings)}}


def write(folder: Path, text: str, name: str = "program.py") -> None:
    """Have a file be this text, at once."""
    (folder / "new").write_text(text)
    (folder / "new").rename(folder / name)


def line(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        piece = sock.recv(100)
        assert piece
        data += piece
    return data


def launcher(daemon: Daemon) -> int:
    (process,) = daemon.processes("launcher")
    pid: int = process["pid"]
    return pid


def test_a_service_in_python_without_any_setting(folder: Path) -> None:
    text = (
        "import sys, os\nprint(sys.argv, os.environ['TCPREMOTEIP'], sys.stdin.buffer.read())\nsys.exit(3)\n"
    )
    write(folder, text)
    config = {"listen": "127.0.0.1:0", "python": str(folder / "program.py"), "args": ["--x", 1]}
    with running(folder, {"services": {"smtp": config}}) as daemon:
        said = daemon.talk("smtp", b"\xff")
        assert said == f"['{folder}/program.py', '--x', '1'] 127.0.0.1 b'\\xff'\n".encode()
        assert daemon.wait_event("connection_served")["status"] == 3


def test_a_traceback_is_in_the_log_and_the_client_gets_nothing_of_it(folder: Path) -> None:
    write(folder, "import sys\nsys.stdin.read()\nraise ValueError('no')\n")
    with running(folder, services()) as daemon:
        assert daemon.talk("smtp") == b""
        assert daemon.wait_event("connection_served")["status"] == 1
        assert daemon.wait_event("program_stderr", line="ValueError: no")["service"] == "smtp"


def test_what_an_import_says_is_in_the_log(folder: Path) -> None:
    write(folder, "import sys\nsys.stderr.write('imported\\n')\n", "noisy.py")
    write(folder, "import noisy\n" + ECHO.format(words="x"))
    with running(folder, services()) as daemon:
        daemon.wait_event("program_stderr", service="smtp", line="imported")


def test_a_module_of_an_environment_that_has_no_ucspid(folder: Path) -> None:
    command = [PYTHON["interpreter"], "-m", "venv", "--without-pip", str(folder / "env")]
    subprocess.run(command, check=True, timeout=TIMEOUT)
    packages = next((folder / "env" / "lib").glob("python*/site-packages"))
    (packages / "mine").mkdir()
    (packages / "mine" / "__init__.py").touch()
    (packages / "mine" / "server.py").write_text(
        "import sys, importlib.util\ndef main():\n    print(sys.prefix, importlib.util.find_spec('ucspid'))\n"
    )
    interpreter = str(folder / "env" / "bin" / "python")
    config = {"listen": "127.0.0.1:0", "module": "mine.server:main", "interpreter": interpreter}
    with running(folder, {"services": {"smtp": config}}) as daemon:
        assert daemon.talk("smtp") == f"{folder}/env None\n".encode()


# Reloads


def test_a_reload_takes_up_a_changed_script_and_running_sessions_go_on(folder: Path) -> None:
    write(folder, WAITS.format(words="one"))
    with running(folder, services()) as daemon:
        old = daemon.connect("smtp")
        assert line(old) == b"one\n"
        before = launcher(daemon)
        write(folder, WAITS.format(words="two"))
        assert daemon.reload() == ["smtp: the program was imported again"]
        with daemon.connect("smtp") as new:
            assert line(new) == b"two\n"
        assert {item["pid"] for item in daemon.processes("launcher")} > {before}
        assert exchange(old) == b""
        old.close()
        wait_gone(before)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("def f(:\n", "SyntaxError: "), ("import missing_module\n", "ModuleNotFoundError: ")],
)
def test_a_reload_with_a_broken_script_says_why_and_the_old_one_serves(
    folder: Path, text: str, reason: str
) -> None:
    write(folder, ECHO.format(words="one"))
    with running(folder, services()) as daemon:
        before = launcher(daemon)
        write(folder, text)
        with pytest.raises(ConfigError) as failed:
            daemon.reload()
        assert failed.value.problems[0].startswith("smtp: ")
        assert failed.value.problems[1] == "Traceback (most recent call last):"
        assert failed.value.problems[-1].startswith(reason)
        assert reason in daemon.wait_event("reload_failed")["reason"]
        assert daemon.talk("smtp", b"x") == b"one:x"
        assert launcher(daemon) == before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "import leaves\n",
            "leaves: its import leaves something behind that a fork cannot have: a thread runs",
        ),
        ("import this_is_not_there\n", "ModuleNotFoundError: No module named 'this_is_not_there'"),
    ],
)
def test_a_start_with_a_program_that_cannot_be_imported_ends_with_100(
    folder: Path, text: str, why: str
) -> None:
    thread = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    write(folder, f"import threading\n{thread}\n", "leaves.py")
    write(folder, text)
    daemon = Daemon(folder, services()).start(ready=False)
    assert daemon.wait() == EXIT_USAGE
    count = 1
    while not any(why in said for said in daemon.wait_lines(count)):  # the reader may be behind
        count += 1


def test_a_change_of_settings_of_the_program_takes_a_new_launcher(folder: Path) -> None:
    write(folder, "import os, sys\nprint(sys.argv[1:], os.environ.get('X'))\n")
    with running(folder, services(args=["a"], env={"X": "1"})) as daemon:
        assert daemon.talk("smtp") == b"['a'] 1\n"
        changes = daemon.reload(services(args=["b"], env={"X": "2"}))
        assert changes == ["smtp: argv program.py a -> program.py b, environment changed"]
        assert daemon.talk("smtp") == b"['b'] 2\n"


# Changed files


def test_a_watched_program_is_taken_up_by_itself(folder: Path) -> None:
    write(folder, "WORDS = 'one'\n", "words.py")
    write(folder, "import words\nprint(words.WORDS)\n")
    with running(folder, services(watch=True)) as daemon:
        assert daemon.talk("smtp") == b"one\n"
        write(folder, "WORDS = 'two'\n", "words.py")
        assert daemon.wait_event("programs_renewed")["services"] == ["smtp"]
        assert daemon.talk("smtp") == b"two\n"


def test_a_watched_program_that_breaks_is_logged_until_it_is_mended(folder: Path) -> None:
    write(folder, "import sys\nprint('one')\n")
    with running(folder, services(watch=True)) as daemon:
        write(folder, "import sys\nprint('one'\n")
        event = daemon.wait_event("programs_not_renewed")
        assert "SyntaxError" in event["reason"]
        assert daemon.talk("smtp") == b"one\n"
        write(folder, "import sys\nprint('two')\n")
        daemon.wait_event("programs_renewed")
        assert daemon.talk("smtp") == b"two\n"


# Deaths


def test_no_session_is_lost_when_launcher_and_loop_are_killed(folder: Path) -> None:
    write(folder, WAITS.format(words="here"))
    with running(folder, services()) as daemon:
        clients = [daemon.connect("smtp") for _ in range(5)]
        for client in clients:
            assert line(client) == b"here\n"
        for role in ("launcher", "loop"):
            (process,) = daemon.processes(role)
            os.kill(process["pid"], signal.SIGKILL)
            daemon.wait_event("process_died", role=role)
        assert daemon.service("smtp")["live"] == 5
        with daemon.connect("smtp") as another:
            assert line(another) == b"here\n"
        for client in clients:
            assert exchange(client) == b""
            client.close()
        daemon.wait_events(6, "connection_served", status=0)


def test_a_session_that_does_not_end_is_ended_by_a_stop(folder: Path) -> None:
    write(folder, "import signal\nprint('here', flush=True)\nsignal.pause()\n")
    with running(folder, services(drain_timeout="1ms")) as daemon, daemon.connect("smtp") as client:
        assert line(client) == b"here\n"


def test_an_upgrade_keeps_sessions_and_imports_again(folder: Path) -> None:
    write(folder, WAITS.format(words="one"))
    with running(folder, services()) as daemon:
        client = daemon.connect("smtp")
        assert line(client) == b"one\n"
        write(folder, WAITS.format(words="two"))
        daemon.signal(signal.SIGUSR2)
        daemon.wait_event("upgraded")
        with daemon.connect("smtp") as another:
            assert line(another) == b"two\n"
        assert exchange(client) == b""
        client.close()


# Privileges


@as_root
def test_everything_of_a_program_runs_as_its_user(folder: Path) -> None:
    daemon_user = pwd.getpwnam("daemon")
    ids = "import os\nIDS = os.getresuid(), os.getresgid(), os.getgroups()\n"
    for name in ("sitecustomize", "imported"):
        write(folder, ids, f"{name}.py")
    text = (
        "import imported, sitecustomize, json, os, resource\n"
        "status = open('/proc/self/status').read()\n"
        "print(json.dumps([imported.IDS, sitecustomize.IDS, os.umask(0), os.nice(0), os.getcwd(),"
        " resource.getrlimit(resource.RLIMIT_NOFILE), 'NoNewPrivs:\\t1' in status]))\n"
    )
    write(folder, text)
    config = services(
        user="daemon", group="daemon", groups=[], umask="027", nice=5, rlimits={"nofile": 99},
        no_new_privs=True, env={"PYTHONPATH": str(folder)},
    )  # fmt: skip
    uid, gid = daemon_user.pw_uid, daemon_user.pw_gid
    mine = [[uid] * 3, [gid] * 3, []]
    with running(folder, config) as daemon:
        said = json.loads(daemon.talk("smtp"))
    assert said == [mine, mine, 0o27, 5, str(folder), [99, 99], True]


@as_root
def test_below_another_root_directory_nothing_of_ucspid_is_needed(folder: Path) -> None:
    """There is no /proc either."""
    python = Path(PYTHON["interpreter"]).resolve()
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]
    stdlib = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    libraries = list(Path(stdlib, "lib-dynload").glob("*.so"))
    needed = subprocess.run(
        ["ldd", str(python), *map(str, libraries)], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    root = folder / "root"
    files = {word for word in needed.split() if word.startswith("/") and not word.endswith(":")}
    for path in files | {str(python)}:
        copy = root / path.removeprefix("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    unused = shutil.ignore_patterns(
        "__pycache__", "test", "dist-packages", "idlelib", "ensurepip", "config-*"
    )
    shutil.copytree(stdlib, root / stdlib.removeprefix("/"), ignore=unused)
    write(root, "import os\nprint(os.listdir('/'), os.getuid(), os.path.exists('/proc'), __file__)\n")
    config = services(chroot="root", chdir="/", interpreter=str(python), python="/program.py")
    with running(folder, config) as daemon:
        said = daemon.talk("smtp").decode()
    assert "program.py" in said
    assert said.endswith(" 65534 False /program.py\n")
