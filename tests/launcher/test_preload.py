"""A launcher of a preloaded program, run for real: its forks are the program as if it had been executed."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import exchange
from launchers import SERVICE, TAG, TIMEOUT, Peers
from reachable import reachable
from spares import kill, spare
from ucspid.ipc import messages as wire

NOBODY = 65534


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with reachable() as folder:
        yield folder


@pytest.fixture
def peers() -> Iterator[Peers]:
    peers = Peers("python")
    yield peers
    peers.close()


def script(folder: Path, text: str, name: str = "program.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def serving(peers: Peers, folder: Path, text: str, *args: str, **settings: Any) -> Peers:
    """Have the launcher preload a script of this text."""
    peers.set_python(script(folder, text), *args, **settings)
    peers.ready()
    return peers


def code(peers: Peers, connection: int = 1) -> int:
    return os.waitstatus_to_exitcode(peers.wait(wire.EXITED, connection).status)


def test_a_session_is_the_script(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, "import sys\nfor line in sys.stdin: print(__name__, line.upper(), end='')\n")
    client = peers.connect(11)
    started = peers.wait(wire.STARTED)
    assert (started.connection, started.tag) == (11, TAG)
    client.sendall(b"hello\n")
    assert exchange(client) == b"__main__ HELLO\n"
    exited = peers.wait(wire.EXITED)
    assert (exited.connection, exited.process, exited.status) == (11, started.process, 0)
    assert peers.list() == {}


# As if it had been executed: what both do is compared

STANDARD = "import sys, os\n"
AS_EXECUTED = {
    "text": STANDARD + "print(sys.stdin.read().upper(), 'ä', file=sys.stdout)",
    "binary": STANDARD + "sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1] + b'\\0\\xff')",
    "descriptors": STANDARD + "os.write(1, os.read(0, 100)); os.write(2, b'error')",
    "a file that is not closed": STANDARD + "out = open(1, 'w', closefd=False); out.write('buffered')",
    "a file in a cycle": STANDARD
    + "class A: pass\na = A(); a.a = a; a.f = open(1, 'w', closefd=False); a.f.write('cycle'); del a",
    "a file of a module": STANDARD + "import this_one\n",
    "the names of the main module": STANDARD
    + "import __main__\nprint(sorted(n for n in vars(__main__)), __main__.__dict__ is globals(), __file__)\n"
    "print(__name__, __doc__, __package__, __spec__, type(__loader__).__name__, __builtins__)",
    "arguments": STANDARD + "print(sys.argv, sys.orig_argv[1:], sys.executable, sys.flags)",
    "the search path": STANDARD + "print(sys.path)",
    "a sibling": STANDARD + "import sibling\nprint(sibling.__file__, sibling.HERE)",
    "the environment": STANDARD + "print(sorted(os.environ.items()), os.getenv('PROTO'))",
    "encodings": STANDARD
    + "print([(f.encoding, f.errors, f.line_buffering, f.write_through, f.name, f.mode, f.closed)"
    " for f in (sys.stdin, sys.stdout, sys.stderr)], sys.getfilesystemencoding())",
    "buffers": STANDARD + "print([type(f.buffer).__name__ for f in (sys.stdin, sys.stdout, sys.stderr)],"
    " [f.seekable() for f in (sys.stdin, sys.stdout)], sys.stdin.isatty())",
    "signals": STANDARD
    + "import signal\nprint([(n, str(signal.getsignal(n))) for n in signal.valid_signals()"
    " if n != signal.SIGINT], signal.getsignal(2) is signal.default_int_handler,"
    " signal.pthread_sigmask(signal.SIG_BLOCK, ()))",
    "open descriptors": STANDARD + "print(sorted(os.listdir('/proc/self/fd')))",
    "a process group": STANDARD + "print(os.getpgrp() == os.getpid(), os.path.basename(os.getcwd()))",
    "ps": "print(open('/proc/self/cmdline').read().rstrip('\\0'), open('/proc/self/comm').read())",
    "memory": "print([line for line in open('/proc/self/maps') if 'memfd' in line])",
    "limits": STANDARD
    + "import resource\nprint([resource.getrlimit(n) for n in range(16)], os.umask(0), os.nice(0))",
    "tracing": "import ctypes\nprint(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))",
    "garbage": "import gc\nprint(gc.isenabled(), gc.get_threshold(), gc.callbacks)",
    "annotations": "x: int = 1\nprint(__annotations__)",
    "no future of ours": "import typing\ndef f(x: int) -> str: ...\nprint(f.__annotations__)",
    "a docstring": '"""What it says."""\nprint(__doc__)',
    "nothing": "",
    "status 0": "import sys\nsys.exit()",
    "status None": "import sys\nsys.exit(None)",
    "status 3": "import sys\nsys.exit(3)",
    "status True": "import sys\nsys.exit(True)",
    "status 256": "import sys\nsys.exit(256 + 7)",
    "status -1": "import sys\nsys.exit(-1)",
    **({"status too large": "import sys\nsys.exit(1 << 80)"} if sys.version_info < (3, 12) else {}),
    "status of text": "import sys\nsys.exit('this is why')",
    "status of a tuple": "raise SystemExit(1, 2)",
    "status of an object": "import sys\nsys.exit(3.5)",
    "exit at once": "import os\nprint('lost')\nos._exit(9)",
    "an exception": "import sys\nprint('out')\ndef f(): raise ValueError('no')\nf()",
    "two exceptions": "try: 1 / 0\nexcept ZeroDivisionError: raise KeyError('other')",
    "a caught one": "import sys\ntry: 1 / 0\nexcept KeyError: pass\nfinally: print(sys.exc_info()[0])",
    "no exception": "import sys\nprint(sys.exc_info())",
    "an interrupt": "raise KeyboardInterrupt",
    "a signal": "import os\nos.kill(os.getpid(), 15)",
    "a hook": "import sys\nsys.excepthook = lambda t, v, tb: print('hook', t, v, tb.tb_lineno)\n1 / 0",
    "a hook that fails": "import sys\ndef hook(*_): raise ValueError('hook')\nsys.excepthook = hook\n1 / 0",
    "atexit": "import atexit\natexit.register(print, 1)\natexit.register(print, 2)\nprint('main')",
    "atexit after an exception": "import atexit\natexit.register(print, 'end')\n1 / 0",
    "atexit that fails": "import atexit\natexit.register(print, 'last')\natexit.register(lambda: 1 / 0)",
    "a thread": "import threading\nwait = threading.Event()\n"
    "threading.Thread(target=lambda: (wait.wait(), print('thread'))).start()\nprint('main')\nwait.set()",
    "a destructor": "class A:\n    def __del__(self): print('gone')\na = A()\n_b = A()",
    "closed output": "import sys\nsys.stdout.close()",
    "a child": "import subprocess\nprint(subprocess.run(['/bin/echo', 'x'], capture_output=True))",
    "multiprocessing": "import multiprocessing\nif __name__ == '__main__':\n"
    "    p = multiprocessing.get_context('fork').Process(target=print, args=('child',)); p.start(); p.join()",
    "a warning": "import warnings\nwarnings.warn('watch out')",
    "logging": "import logging\nlogging.warning('said')",
    "pickle": "import pickle\nclass A: pass\nprint(pickle.loads(pickle.dumps(A())).__class__)",
    "a dataclass": "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\nprint(A(1))",
    "inspect": "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))",
    "asyncio": "import asyncio as io\nasync def main(): print(await io.to_thread(str, 1))\nio.run(main())",
    "a coding": "# -*- coding: latin-1 -*-\nprint('caf\udce9')",
}  # fmt: skip


def executed(
    argv: list[str], env: dict[str, str], said: bytes, interpreter: str = sys.executable
) -> tuple[bytes, int]:
    """Return what a program writes, and how it ends."""
    client, servers = socket.socketpair()
    client.settimeout(TIMEOUT)
    with client, servers:
        command, end = [interpreter, *argv], servers.fileno()
        process = subprocess.Popen(
            command, env=env, stdin=end, stdout=end, stderr=end, cwd="/", process_group=0
        )
        servers.close()
        output = exchange(client, said)
    return output, process.wait(TIMEOUT)


def same_anywhere(output: bytes) -> bytes:
    """Return output without what differs from process to process."""
    return re.sub(rb"0x[0-9a-f]+", b"0x", output)


@pytest.mark.parametrize("name", AS_EXECUTED)
def test_a_fork_does_what_the_script_does_when_it_is_executed(
    peers: Peers, tmp_path: Path, name: str
) -> None:
    (tmp_path / "sibling.py").write_text("import os\nHERE = os.path.basename(__file__)\n")
    (tmp_path / "this_one.py").write_text("kept = open(1, 'w', closefd=False)\nkept.write('of a module')\n")
    path = tmp_path / "program.py"
    path.write_bytes(AS_EXECUTED[name].encode("utf-8", "surrogateescape"))
    if name == "a file of a module":  # which is imported when the program runs
        path.write_text("if True:\n    import this_one\n")
    env = {"PATH": "/usr/bin:/bin", "FIXED": "a=b"}
    argv = [str(path), "--first", "second", ""]
    said = (
        b"said\n" if re.search(r"(stdin|os)\S*\.read\(", AS_EXECUTED[name]) else b""
    )  # what is not read resets the connection
    wanted = executed(argv, {**env, "PROTO": "TCP"}, said)
    peers.set_python(*argv, env=env, stderr=wire.STDERR_CLIENT)
    peers.ready(cwd="/")
    client = peers.connect(1, "PROTO=TCP")
    output = exchange(client, said)
    assert (same_anywhere(output), code(peers)) == (same_anywhere(wanted[0]), wanted[1])


def test_what_cannot_be_written_at_the_end_is_status_120(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, "import sys\nsys.stdin.read()\nprint('x')\n", stderr=wire.STDERR_KEPT)
    client = peers.connect(1)
    client.close()
    assert code(peers) == 120


# Once for all, and of one's own

COUNTED = "import os, random\nos.write(2, b'imported\\n')\nvalues = []\n"


def test_imports_at_the_beginning_are_made_once(
    peers: Peers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    (tmp_path / "named.py").write_text(COUNTED)
    (tmp_path / "later.py").write_text(COUNTED)
    text = '"""What it is."""\nfrom __future__ import annotations\nimport counted\nX = 1\nimport later\n'
    serving(peers, tmp_path, text, modules=["named"])
    for connection in (1, 2):
        exchange(peers.connect(connection))
        assert code(peers, connection) == 0
    assert capfd.readouterr().err.count("imported") == 2 + 2


def test_nothing_of_one_client_is_there_for_the_next(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(COUNTED)
    text = (
        "import os, shared, random\n"
        "print(shared.values, os.environ.get('TCPREMOTEIP'), os.environ.get('ADDED'), 'left' in globals())\n"
        "shared.values.append('secret'); os.environ['ADDED'] = 'x'; left = 1; os.umask(0)\n"
        "print('-', os.getpid(), random.random(), shared.random.getrandbits(64))\n"
    )
    serving(peers, tmp_path, text, stderr=wire.STDERR_CLIENT)
    first = exchange(peers.connect(1, "TCPREMOTEIP=192.0.2.1")).decode().splitlines()
    second = exchange(peers.connect(2)).decode().splitlines()
    assert (first[0], second[0]) == ("[] 192.0.2.1 None False", "[] None None False")
    one, other = first[1].split(), second[1].split()
    assert [int(one[1]), int(other[1])] == [peers.wait(wire.EXITED, n).process for n in (1, 2)]
    assert set(one[2:]) & set(other[2:]) == set()


def test_a_fork_has_copied_few_pages_when_its_program_begins(peers: Peers, tmp_path: Path) -> None:
    # 147 to 180 with Python 3.9 to 3.13. A call by ctypes makes it 40 more, one that returns signals 30.
    (tmp_path / "counting.py").write_text(
        "from resource import *\ndef main(): print(getrusage(RUSAGE_SELF).ru_minflt)"
    )
    peers.set_python("counting", module="counting:main", env={"PYTHONPATH": str(tmp_path)})
    peers.ready()
    for connection in (1, 2):
        kill(spare(peers))  # it copies some in advance
        pages = int(exchange(peers.connect(connection)))
        peers.wait(wire.EXITED, connection)
    assert 0 < pages < 215


@pytest.mark.parametrize(
    ("body", "output", "status"),
    [
        ("print(sys.argv, __name__)", b"['app.server:Server.run', 'a'] app.server\n", 0),
        ("return 5", b"", 5),
        ("return 'why'", b"why\n", 1),
        ("raise ValueError('no')", None, 1),
        ("sys.exit(7)", b"", 7),
    ],
)
def test_a_function_is_called_for_each_connection(
    peers: Peers, tmp_path: Path, body: str, output: bytes | None, status: int
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "server.py").write_text(
        f"import sys\nclass Server:\n    @staticmethod\n    def run():\n        {body}\n"
    )
    peers.set_python("app.server:Server.run", "a", module="app.server:Server.run", stderr=wire.STDERR_CLIENT)
    peers.ready(cwd=str(tmp_path))
    said = exchange(peers.connect(1))
    assert code(peers) == status
    if output is None:
        assert said.startswith(b"Traceback (most recent call last):\n  File")
        assert b"<ucspid" not in said
        assert said.endswith(b"in run\n    raise ValueError('no')\nValueError: no\n")
    else:
        assert said == output


# What cannot be preloaded

LEFT = {
    "a thread runs (helper)": "import threading\n"
    "threading.Thread(target=threading.Event().wait, name='helper', daemon=True).start()",
    "a socket is open": "import socket\nkept = socket.socket()",
    "a file is open": "kept = open('/etc/passwd')",
    "an event loop was made": "import asyncio\nkept = asyncio.new_event_loop()",
    "a child process was started": "import subprocess\nkept = subprocess.Popen(['sleep', '1'])",
}


@pytest.mark.parametrize("what", LEFT)
def test_what_an_import_leaves_behind_is_refused(peers: Peers, tmp_path: Path, what: str) -> None:
    (tmp_path / "leaves.py").write_text(LEFT[what])
    peers.set_python(script(tmp_path, "import leaves\n"))
    reason = peers.refused()
    assert reason.startswith(f"leaves: its import leaves something behind that a fork cannot have: {what}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(:\n", "SyntaxError"),
        ("import this_is_not_there\n", 'program.py", line 1, in <module>\n    import this_is_not_there'),
        ("import os\nfrom os import not_there\n", "ImportError: cannot import name 'not_there' from 'os'"),
        ("import broken\n", "ZeroDivisionError: division by zero"),
        ("import leaves\n", "SystemExit: 3"),
        ("import os\n\0", "null bytes"),
    ],
)
def test_why_a_program_cannot_be_imported_is_reported(
    peers: Peers, tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "broken.py").write_text("def f():\n    1 / 0\nf()\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    path = script(tmp_path, text)
    peers.set_python(path)
    told = peers.refused()
    assert told.startswith(f"{path}: cannot be imported:\n")
    assert reason in told
    assert "ucspid" not in told.replace(path, "")
    assert len(told) < 8000


def test_a_traceback_is_cut_at_its_beginning(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('x' * 100_000 + 'the end')\n")
    peers.set_python(script(tmp_path, "import broken\n"))
    assert peers.refused().endswith("xxthe end")


@pytest.mark.parametrize("module", ["missing:main", "json:missing", "json:__doc__"])
def test_a_function_that_is_not_there_is_reported(peers: Peers, module: str) -> None:
    peers.set_python(module, module=module)
    assert peers.refused().startswith(f"{module}: ")


def test_a_script_that_is_not_there_is_reported(peers: Peers, tmp_path: Path) -> None:
    peers.set_python(str(tmp_path / "missing.py"))
    assert "No such file or directory" in peers.refused()


def test_an_interpreter_that_is_too_old_is_reported(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 8, 20)\n")
    peers.set_python(script(tmp_path, "x = 1\n"), env={"PYTHONPATH": str(tmp_path)})
    assert "is older than Python 3.9" in peers.refused()


def test_an_interpreter_that_lacks_a_module_is_reported(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ctypes'] = None\n")
    peers.set_python(script(tmp_path, "x = 1\n"), env={"PYTHONPATH": str(tmp_path)})
    assert peers.refused().startswith(
        f"{sys.executable} lacks what a launcher needs: import of ctypes halted"
    )


def test_a_program_is_imported_even_where_there_can_be_no_other_process_yet(
    peers: Peers, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nfork = os.fork\n"
        "def refuse():\n    os.fork = fork\n    raise BlockingIOError(11, 'too many')\nos.fork = refuse\n"
    )
    serving(peers, tmp_path, "print('served')\n", env={"PYTHONPATH": str(tmp_path)})
    assert exchange(peers.connect(1)) == b"served\n"


def test_an_interpreter_that_cannot_be_executed_is_reported(peers: Peers, tmp_path: Path) -> None:
    peers.set_python(script(tmp_path, "x = 1\n"), interpreter=str(tmp_path / "python"))
    peers.start()
    assert "No such file" in wire.PrivilegesRefused.unpack(peers.hear()).reason


# Interpreters and privileges


def test_another_interpreter_needs_no_ucspid(peers: Peers, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    packages = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (packages / "of_the_service.py").write_text("import sys\nPREFIX = sys.prefix\n")
    text = (
        "import of_the_service, sys, importlib.util\n"
        "print(of_the_service.PREFIX, importlib.util.find_spec('ucspid'), sys.executable, sys.meta_path[0],"
        " [name for name in sys.modules if 'ucspid' in name])\n"
    )
    interpreter = str(tmp_path / "env" / "bin" / "python")
    serving(peers, tmp_path, text, interpreter=interpreter, stderr=wire.STDERR_CLIENT)
    wanted = executed([str(tmp_path / "program.py")], {}, b"", interpreter)[0]
    assert same_anywhere(exchange(peers.connect(1))) == same_anywhere(wanted)
    assert wanted.startswith(f"{tmp_path}/env None {interpreter} ".encode())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
def test_the_program_is_imported_as_its_user_from_the_first_module_on(
    peers: Peers, shared_folder: Path
) -> None:
    """Whatever the interpreter runs at its start, too."""
    for name in ("sitecustomize", "imported"):
        (shared_folder / f"{name}.py").write_text("import os\nIDS = os.getresuid(), os.getgroups()\n")
    text = (
        "import imported, sitecustomize, os\n"
        "print({*imported.IDS[0], *sitecustomize.IDS[0], *os.getresuid()}, imported.IDS[1], os.umask(0))\n"
    )
    peers.set_python(
        script(shared_folder, text), env={"PYTHONPATH": str(shared_folder)}, interpreter="/usr/bin/python3",
        stderr=wire.STDERR_CLIENT,
    )  # fmt: skip
    peers.ready(uid=NOBODY, gid=NOBODY, groups=(), umask=0o27, cwd=str(shared_folder))
    assert exchange(peers.connect(1)) == b"{65534} [] 23\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
def test_a_launcher_under_another_user_cannot_be_traced_and_its_programs_can(
    peers: Peers, shared_folder: Path
) -> None:
    text = "import os\nfor pid in ('self', os.getppid()): print(os.access(f'/proc/{pid}/mem', os.R_OK))\n"
    peers.set_python(script(shared_folder, text), interpreter="/usr/bin/python3", stderr=wire.STDERR_CLIENT)
    peers.ready(uid=NOBODY, gid=NOBODY, groups=(), cwd=str(shared_folder))
    assert exchange(peers.connect(1)) == b"True\nFalse\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
def test_a_script_is_found_where_only_the_working_directory_leads_to(
    peers: Peers, shared_folder: Path
) -> None:
    inside = shared_folder / "private" / "inside"
    inside.mkdir(parents=True)
    inside.parent.chmod(0o700)
    script(inside, "import sibling\nprint(sibling.X, __file__)\n")
    (inside / "sibling.py").write_text("X = 1\n")
    peers.set_python("program.py", interpreter="/usr/bin/python3", stderr=wire.STDERR_CLIENT)
    peers.ready(uid=NOBODY, gid=NOBODY, groups=(), cwd=str(inside))
    assert exchange(peers.connect(1)) == b"1 /proc/self/cwd/program.py\n"


@pytest.mark.parametrize("limit", [64, None])
def test_limits_are_the_programs_not_the_launchers(peers: Peers, tmp_path: Path, limit: int | None) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    text = "import resource as r\nprint(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CPU)[0])\n"
    peers.set_python(script(tmp_path, text), stderr=wire.STDERR_CLIENT)
    peers.ready(nofile=limit or hard, rlimits=(("cpu", 7),))
    assert exchange(peers.connect(1)).decode() == f"({limit or hard}, {hard}) 7\n"
    assert f"{hard} " in Path(f"/proc/{peers.pid}/limits").read_text()


# Sessions, as with any launcher

WAITS = "import sys\nprint('here', flush=True)\nsys.exit(len(sys.stdin.read()))\n"


def test_sessions_go_on_when_their_launcher_is_killed(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    client = peers.connect(1)
    assert client.recv(5) == b"here\n"
    process = peers.wait(wire.STARTED).process
    peers.kill()
    peers.ready({process})
    assert peers.list()[1].process == process
    assert exchange(client, b"seven!!") == b""
    peers.master.send(wire.OrphanExit(process, 7 << 8, 1, 2, 3).pack())
    assert peers.wait(wire.EXITED, 1).status == 7 << 8
    assert exchange(peers.connect(2)) == b"here\n"


def test_a_launcher_that_is_to_leave_does_with_its_last_session(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    client = peers.connect(1)
    assert client.recv(5) == b"here\n"
    peers.ask(wire.Drain())
    exchange(client)
    assert code(peers) == 0
    assert peers.exit() == 0


def test_what_an_import_has_printed_is_for_each_client_and_does_not_hold_the_launcher(
    peers: Peers, tmp_path: Path
) -> None:
    (tmp_path / "says.py").write_text("import atexit\nprint('said')\natexit.register(print, 'end')\n")
    serving(peers, tmp_path, "import says\nprint('served')\n")
    for connection in (1, 2):
        assert exchange(peers.connect(connection)) == b"said\nserved\nend\n"
    peers.ask(wire.Drain())
    assert peers.exit() == 0


def test_a_signal_is_for_the_session_and_all_of_its_processes(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, "import os, signal\nos.fork()\nprint('x', flush=True)\nsignal.pause()\n")
    client = peers.connect(1)
    received = b""
    while received != b"x\nx\n":
        received += client.recv(5)
    peers.ask(wire.Signal(signal.SIGTERM, peers.wait(wire.STARTED).process, 1))
    assert client.recv(1) == b""  # both have ended
    assert code(peers) == -signal.SIGTERM


def test_a_variable_that_connections_may_not_set_starts_nothing(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    client = peers.connect(1, "PYTHONPATH=/tmp")
    assert peers.wait(wire.FAILED).connection == 1
    assert client.recv(1) == b""
    assert peers.list() == {}


def test_variables_that_rules_set_may_be_allowed_later(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, "import os\nprint(os.environ['RELAYCLIENT'])\n")
    peers.master.send(wire.AllowNames(SERVICE, (b"RELAYCLIENT",)).pack())
    assert exchange(peers.connect(1, "RELAYCLIENT=yes")) == b"yes\n"


def test_a_launcher_that_nobody_holds_leaves(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    peers.loop_end.close()
    peers.loop.close()
    assert peers.exit() == 0


# Changes


def changed(peers: Peers, seconds: float) -> bool:
    """Return whether the launcher reports a change within some seconds."""
    peers.master.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        return peers.hear() == wire.Changed().pack()
    return False


def test_a_change_of_what_was_imported_is_reported(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("X = 1\n")
    (tmp_path / "other.py").write_text("X = 1\n")
    for name in ("helper.py", "other.py"):
        os.utime(tmp_path / name, (1e9, 1e9))
    path = script(tmp_path, "import helper\n")
    os.utime(path, (1e9, 1e9))
    peers.set_python(path, watch=True)
    peers.ready()
    (tmp_path / "helper.py").write_text("X = 2\n")
    assert changed(peers, TIMEOUT)
    (tmp_path / "new").write_text("import helper, os\n")
    (tmp_path / "new").rename(path)
    while not changed(peers, TIMEOUT):
        pass
    while changed(peers, 0.1):
        pass
    (tmp_path / "other.py").write_text("X = 2\n")
    assert not changed(peers, 0.1)


TAKES_ALL = """
import ctypes, os
while ctypes.CDLL(None).inotify_init1(0) >= 0:
    pass
os.write(1, b"x")
os.read(0, 1)
"""
"""All the queues of events that a user may have."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user with nothing else to run")
def test_files_that_cannot_be_watched_are_a_mistake(peers: Peers, shared_folder: Path) -> None:
    user = 64_000 + os.getpid() % 1000
    command = ["/usr/bin/python3", "-c", TAKES_ALL]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=user) as taking:
        assert taking.stdout is not None
        assert taking.stdout.read(1) == b"x"
        path = script(shared_folder, "x = 1\n")
        peers.set_python(path, watch=True, interpreter="/usr/bin/python3")
        assert peers.refused(uid=user, gid=NOBODY, groups=()).startswith("watch: Too many open files; see")


def test_a_file_that_changes_while_it_is_imported_is_reported(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("open(__file__, 'a').close()\nimport os; os.utime(__file__)\n")
    path = script(tmp_path, "import helper\n")
    os.utime(path, (1e9, 1e9))
    peers.set_python(path, watch=True)
    peers.ready()
    assert changed(peers, TIMEOUT)
