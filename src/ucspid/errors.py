"""The errors of ucspid, by whose fault they are, and the exit codes they map to.

UcspidError
├── ConfigError     the file is wrong: whoever wrote it can mend it
├── ResourceError   the system refused something: a port is taken, a limit reached
├── WireError       another process of the daemon sent what it should not
└── PeerError       a control client sent what it should not
"""

EXIT_USAGE = 100
"""Wrong usage or configuration: trying again will not help (the convention of UCSPI tools)."""
EXIT_SYSTEM = 111
"""The system refused something: trying again may help."""


class UcspidError(Exception):
    """What all errors that ucspid raises on purpose have in common."""


class ConfigError(UcspidError):
    """A configuration file is wrong; problems holds a line for each mistake in it.

    Of a file that is not YAML, two more lines, indented, show the place.
    """

    def __init__(self, problems: list[str]) -> None:
        """Keep the problems, each with the place it was found at."""
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        """Return all problems, one a line."""
        return "\n".join(self.problems)


class ResourceError(UcspidError):
    """The system refused what the plan needs."""


class WireError(UcspidError):
    """A message between processes of the daemon that does not follow the protocol."""


class PeerError(UcspidError):
    """A control client's request that cannot be understood or is not allowed."""
