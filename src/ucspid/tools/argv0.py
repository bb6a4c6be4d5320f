"""argv0 REALNAME PROGRAM [ARG …]: become the program REALNAME, under the name PROGRAM."""

from ucspid.tools.messages import EXIT_USAGE, ToolError, system_error
from ucspid.tools.process import environment, execute


def main(argv: list[bytes]) -> int:
    """Become the program. Raises ToolError."""
    if len(argv) < 3:  # noqa: PLR2004 - both words
        raise ToolError(EXIT_USAGE, b"argv0: usage: argv0 realname program [ arg ... ]")
    error = execute(argv[1], argv[2:], environment())
    raise system_error(error, b"argv0: fatal: unable to run ", argv[1], b": ")
