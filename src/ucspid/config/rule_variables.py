"""python -I -m ucspid.config.rule_variables PATH KIND UID GID GROUPS [MEMORY]: print what a rules file sets.

The master runs this while a plan is in force, when a rules file sets variables that it did not
set before: the configuration file has no part in it. The file is read with the rights that the
event loop has; a - leaves what it stands for as it is, groups have commas between them. Prints the
names of the variables, as a list in JSON. Exits 0, 100 for a file that is wrong, 111 for one that
cannot be read. MEMORY is as for ucspid.config.
"""

import json
import sys

from ucspid.config.rulefiles import examine
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, ConfigError
from ucspid.ipc.progress import progress
from ucspid.linux import prctl, privileges
from ucspid.plan import RulesFile
from ucspid.profile import Profile

ARGUMENTS = (5, 6)


def main(arguments: list[str]) -> int:
    """Print the variables of the file named; return the exit code."""
    if len(arguments) not in ARGUMENTS:
        sys.stderr.write(
            "usage: python -I -m ucspid.config.rule_variables PATH KIND UID GID GROUPS [MEMORY]\n"
        )
        return EXIT_USAGE
    path, kind, uid, gid, groups, *memory = arguments
    for descriptor in memory:
        progress.descriptor = int(descriptor)
    file = RulesFile(path=path, kind="cdb" if kind == "cdb" else "text")
    try:
        privileges.take(Profile(uid=_number(uid), gid=_number(gid), groups=_numbers(groups)))
        prctl.give_up_capabilities()
        names = examine(file).names
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except privileges.CannotTake as refused:
        sys.stderr.write(f"cannot become the user of the event loop: {refused}\n")
        return EXIT_SYSTEM
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror}\n")
        return EXIT_SYSTEM
    sys.stdout.write(json.dumps(names))
    return 0


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


def _numbers(text: str) -> tuple[int, ...] | None:
    return None if text == "-" else tuple(int(item) for item in text.split(",") if item)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
