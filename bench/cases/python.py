"""Programs in Python: executed for each connection, as under any superserver, or imported once and forked."""

import contextlib
import shutil
import socket
from functools import partial
from pathlib import Path

from bench import measure
from bench.cases.common import compare, served
from bench.contest import Measured, Result, Settings
from bench.daemon import Ucspid, UcspidPeer
from bench.load import Clients, Load
from bench.peers import Tcpserver
from bench.server import Peer, Server, Workload

MAIL = Path(__file__).parents[2] / "examples" / "mail"
SAYS = ("QUIT\r\n",)

_ANSWERS = """
sys.stdout.write("220 ready\\r\\n")
sys.stdout.flush()
sys.stdin.readline()
sys.stdout.write("221 goodbye\\r\\n")
"""
_HEAVY = "asyncio, email.parser, http.client, json, logging, sqlite3, ssl, urllib.request, xml.dom.minidom"
SCRIPTS = {
    "none": f"import sys\n{_ANSWERS}",
    "heavy": f"import sys\nimport {_HEAVY}\n{_ANSWERS}",
}
"""Programs by what they import; the example SMTP service is the third."""

SPACED = 20
"""Connections per second that come one by one."""

_SHARE_OF_EXEC = 0.03
_HELD = 20
_TIMEOUT = 60.0


class _Executing:
    """A server that executes Python for each connection, which takes so long that it gets fewer."""

    def __init__(self, peer: Peer) -> None:
        """Start this one."""
        self.name = peer.name
        self._peer = peer

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return self._peer.absent()

    def start(self, workload: Workload) -> Server:
        """Start it."""
        server = self._peer.start(workload)
        server.share = _SHARE_OF_EXEC
        return server


def python(settings: Settings, imports: str, at_once: int) -> Result:
    """Compare sessions of one exchange: Python that is preloaded, or executed, and a program in C."""
    case, about = f"python-{imports}-{at_once}", f"a program in Python, imports: {imports}, {at_once} at once"
    return _python(settings, imports, case, about, Clients(settings.size(2000, 40), at_once, says=SAYS))


def python_spaced(settings: Settings) -> Result:
    """Compare what is preloaded with C where a client comes alone, some time after the one before."""
    about = f"the example SMTP service, a client every {1000 / SPACED:g} ms"
    clients = Clients(settings.size(200, 10), rate=SPACED, says=SAYS)
    return _python(settings, "smtp", "python-smtp-spaced", about, clients, executes=False)


def _python(
    settings: Settings, imports: str, case: str, about: str, clients: Clients, *, executes: bool = True
) -> Result:
    python3 = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if python3 is None:
        return Result(case, about, {}, {"ucspid": "there is no python3 that every user can execute"})
    if imports == "smtp":
        script, preloaded = MAIL / "smtpd.py", {"module": "smtpd:main", "chdir": str(MAIL)}
        executed = {"program": [python3, "/proc/self/cwd/smtpd.py"], "chdir": str(MAIL)}
    else:
        script = settings.files / f"python-{imports}.py"
        script.write_text(SCRIPTS[imports])
        preloaded, executed = {"python": str(script)}, {"program": [python3, str(script)]}
    peers: list[Peer] = [
        UcspidPeer("ucspid preloaded", service={**preloaded, "interpreter": python3}),
        UcspidPeer("ucspid, C program", service={"program": [settings.programs.talk]}),
    ]
    if executes:
        peers[1:1] = [_Executing(UcspidPeer("ucspid exec", service=executed)), _Executing(Tcpserver())]
    return compare(
        settings,
        case,
        about,
        peers,
        Workload(program=(python3, str(script)), files=settings.files),
        partial(_with_memory, settings, clients),
    )


def _with_memory(settings: Settings, clients: Clients, server: Server) -> tuple[Measured, Load]:
    """Put a load on a server; return also the memory of a session, which shares with its launcher."""
    figures, done = served(settings, clients, server)
    if isinstance(server, Ucspid):
        figures["PSS KB a session"] = _memory_of_a_session(server) / 1e3
    return figures, done


def _memory_of_a_session(server: Server) -> float:
    with contextlib.ExitStack() as stack:
        for _ in range(_HELD):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), _TIMEOUT))
            client.recv(1)
        own = set(server.pids())
        programs = [pid for pid in measure.descendants(server.process.pid) if pid not in own]
        used = list(filter(None, (measure.pss_of([pid]) for pid in programs)))
        return sum(used) / max(1, len(used))
