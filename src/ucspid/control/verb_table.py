"""The verbs that control clients have: what carries each out, and which of them change something."""

from ucspid.control.audit import Audit
from ucspid.control.bans import BanVerbs
from ucspid.control.master_client import MasterClient
from ucspid.control.operator_verbs import OperatorVerbs
from ucspid.control.server import Verbs
from ucspid.control.status import status
from ucspid.control.tailing import Tailing
from ucspid.ipc.orders import Begin
from ucspid.observe.log import LogOutput


def verb_table(link: MasterClient, first: Begin, output: LogOutput, bans: BanVerbs, audit: Audit) -> Verbs:
    """Return the verbs by their names; docs/protocol-control.md describes them."""
    services = link.server.services
    operator = OperatorVerbs(services, output)
    return Verbs(
        looking={
            "status": lambda _args: status(link, first.config, first.began, output),
            "verify": lambda _args: audit.verify(),
            "sessions": operator.sessions,
            "denied": bans.denied,
            "progress": lambda _args: link.requests.progress(),
        },
        changing={
            "kill": operator.kill,
            "drain": operator.drain,
            "resume": operator.resume,
            "limit": operator.limit,
            "deny": bans.deny,
            "undeny": bans.undeny,
            "log_level": operator.log_level,
            "plan": lambda _args: link.requests.plan(),
            "reload": lambda _args: link.requests.reload(),
            "upgrade": lambda _args: link.requests.upgrade(),
        },
        streaming={"tail": Tailing(services, output.tails).tail},
    )
