"""The verbs that control clients have: what carries each out."""

from collections.abc import Mapping

from ucspid.control.audit import Audit
from ucspid.control.bans import BanVerbs
from ucspid.control.master_client import MasterClient
from ucspid.control.operator_verbs import OperatorVerbs
from ucspid.control.server import Answering
from ucspid.control.status import status
from ucspid.ipc.orders import Begin


def verb_table(
    link: MasterClient, first: Begin, operator: OperatorVerbs, bans: BanVerbs, audit: Audit
) -> Mapping[str, Answering]:
    """Return the verbs by their names; docs/protocol-control.md describes them."""
    return {
        "status": lambda _args: status(link, first.config, first.began),
        "verify": lambda _args: audit.verify(),
        "sessions": operator.sessions,
        "denied": bans.denied,
        "kill": operator.kill,
        "drain": operator.drain,
        "resume": operator.resume,
        "deny": bans.deny,
        "undeny": bans.undeny,
        "log_level": operator.log_level,
        "reload": lambda _args: link.requests.reload(),
        "upgrade": lambda _args: link.requests.upgrade(),
    }
