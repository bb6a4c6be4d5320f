"""Starts the relay between a process of the event loop and systemd's journal: see ucspid/journal_relay.py."""

import socket

from ucspid.linux.journal_stream import leads_to_journal
from ucspid.master import roles
from ucspid.master.children import Children, Exit
from ucspid.plan import Plan

_STDERR = 2


def start_relay(plan: Plan, children: Children) -> socket.socket | None:
    """Return the loop's end; None if the log does not go to the journal by its own protocol.

    Nor if no relay can be started: the loop writes lines then.
    """
    if plan.log.format != "auto" or not leads_to_journal(_STDERR):
        return None
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        return None
    with theirs:
        try:
            children.expect(roles.start_journal_relay(theirs.fileno(), plan), _ended)
        except OSError:
            ours.close()
            return None
    return ours


def _ended(_exit: Exit) -> None:
    """It ends after its loop; or the loop notices, and writes lines."""
