"""What a process of the event loop is sent, and what it is given."""

import json
import socket

from plans import plan, service
from ucspid.ipc.channel import Channel, pair
from ucspid.master.acquired import Acquired
from ucspid.master.event_log import EventLog
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.loop_orders import LoopOrders
from ucspid.master.loop_process import LoopProcess
from ucspid.master.poller import Poller
from ucspid.net.endpoint import Endpoint


class Silent:
    """Who hears nothing from launchers and loops, since they say nothing here."""

    def log(self, *_: object, **__: object) -> None:
        raise AssertionError

    launcher_ready = launcher_refused = program_changed = note = room = log


def test_a_listener_that_the_process_before_has_shut_down_listens_for_the_next() -> None:
    with socket.socket() as holder:  # of a port, since one of the kernel's choice is lost with the shutdown
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        address = Endpoint("127.0.0.1", holder.getsockname()[1])
        smtp = service("smtp", listen=(address,))
        held = Holdings(plan=plan(smtp))
        acquired = Acquired()
        acquired.completed = held.listeners.acquire([smtp], acquired.listeners)
        held.listeners.add(acquired.listeners)
        (listening,) = held.listeners
        held.profiles[smtp.launcher_key] = ProfileLaunchers(
            1, smtp.launcher_key, 256, Poller(), EventLog(), Silent()
        )
        listening.sock.shutdown(socket.SHUT_RDWR)
        ours, theirs = pair()
        with ours, theirs, listening.sock:
            poller, log = Poller(), EventLog()
            process = LoopProcess(0, Channel(theirs), poller, log, Silent())
            LoopOrders(process).send_plan(held, 1)
            packet, descriptors = Channel(ours).receive() or (b"", [])
            assert json.loads(packet)["do"] == "add_listeners"
            with socket.socket(fileno=descriptors[0]) as given, socket.create_connection(given.getsockname()):
                given.setblocking(True)
                given.accept()[0].close()
        held.close()
