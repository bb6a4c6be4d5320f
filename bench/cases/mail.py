"""A real mail session: mailfront's smtpfront-echo from its greeting to QUIT."""

from functools import partial

from bench.cases.common import compare, served
from bench.contest import Result, Settings
from bench.daemon import UcspidPeer
from bench.floors import Floor
from bench.launching import find, lacking
from bench.load import Clients
from bench.peers import OpenbsdInetd, Tcpserver, Tcpsvd, Xinetd
from bench.server import Workload

DIALOGUE = (
    "EHLO bench.example\r\n",
    "MAIL FROM:<bench@bench.example>\r\n",
    "RCPT TO:<bench@localhost>\r\n",
    "DATA\r\n",
    "Subject: bench\r\n\r\nOne line.\r\n.\r\n",
    "QUIT\r\n",
)


def mail(settings: Settings) -> Result:
    """Compare mail sessions, or say that mailfront is absent."""
    about = "a mail session with mailfront's smtpfront-echo, 20 at once"
    missing = lacking("smtpfront-echo", "mailfront")
    if missing:
        return Result("mail", about, {}, {"smtpfront-echo": missing})
    clients = Clients(settings.size(400, 20), settings.size(20, 4), says=DIALOGUE)
    return compare(
        settings,
        "mail",
        about,
        [
            UcspidPeer(),
            Tcpserver(),
            Tcpsvd(),
            Xinetd(),
            OpenbsdInetd(settings),
            Floor(settings.programs.floor),
        ],
        Workload(
            program=(find("smtpfront-echo"),),
            files=settings.files,
            env={"PLUGINS": "accept", "PROTO": "TCP", "TCPREMOTEIP": "127.0.0.1"},
        ),
        partial(served, settings, clients),
    )
