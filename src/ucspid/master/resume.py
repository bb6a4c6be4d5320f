"""python -I -m ucspid.master.resume STATE: go on as the master that this process was before.

Executed by the master itself, from the code that is installed now; STATE is a descriptor with what
it knew (carried.State). Signals are blocked, as they were, until they can be read again.
"""

import os
import sys

from ucspid.errors import ResourceError
from ucspid.linux import prctl
from ucspid.master.holdings import Holdings
from ucspid.master.main import SIGNALS, Master
from ucspid.master.start import TITLE
from ucspid.master.upgrade_state import MasterState, from_memory


def main(arguments: list[str]) -> int:
    """Take over everything, and run until the daemon stops; return the exit status."""
    signalfd = prctl.open_signalfd(SIGNALS)
    state = from_memory(int(arguments[0]))
    for descriptor in state.descriptors():
        os.set_inheritable(descriptor, False)
    prctl.set_title(TITLE)
    return Master(state.config, None, signalfd, state.nofile, state).run()


def understand(memory: int) -> MasterState:
    """Return the state in the memory. Raises ResourceError if main() would not understand it."""
    state = from_memory(memory)
    if unknown := state.holdings.others.keys() - set(Holdings.CARRIED):
        raise ResourceError(f"needs a restart: it does not know {', '.join(unknown)}")
    return state


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
