"""python -I -m ucspid.config FILE [PROGRESS [MATERIAL]]: print the file's plan as JSON, or its mistakes.

The master runs this as a process of its own, so that YAML, name services and slow disks stay
out of the one that lives long with privileges. Exits 0, 100 for a wrong file, 111 if the
system has no resources to check it. PROGRESS and MATERIAL are descriptors: what is looked at is said in
the one, the certificates of the file are written to the other.
"""

import sys

from ucspid.config.load import load
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, ConfigError
from ucspid.ipc.progress import progress

MAX_ARGUMENTS = 3


def main(arguments: list[str]) -> int:
    """Print the plan of the file named; return the exit code."""
    if not 1 <= len(arguments) <= MAX_ARGUMENTS:
        sys.stderr.write("usage: python -I -m ucspid.config FILE [PROGRESS [MATERIAL]]\n")
        return EXIT_USAGE
    file, *descriptors = arguments
    progress.descriptor, material = [*map(int, descriptors), None, None][:2]
    try:
        plan = load(file, material)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except OSError as error:
        sys.stderr.write(f"{arguments[0]}: cannot be checked: {error.strerror}\n")
        return EXIT_SYSTEM
    sys.stdout.write(plan.to_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
