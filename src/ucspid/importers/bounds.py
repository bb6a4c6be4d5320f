"""How much is read of a host's files, and how much is made of them."""

MAX_FILE_BYTES = 1 << 20
"""Bytes of one file."""
MAX_TOTAL_BYTES = 16 << 20
"""Bytes of all files together."""
MAX_SCRIPT_BYTES = 128 << 10
"""Bytes of a script: it is taken apart word by word."""
MAX_FILES = 4096
"""Files and directories that are read."""
MAX_ENTRIES = 4096
"""Entries of a directory."""
MAX_DEPTH = 16
"""Files that include each other, blocks inside each other."""
MAX_LINKS = 40
"""Symbolic links on the way to one file below another root directory, as the kernel has it."""
MAX_SERVICES = 1000
MAX_RULES = 10_000
"""Rules of one service."""
MAX_WORDS = 4096
"""Words of one command."""
MAX_LINE = 65536
"""Characters of one line."""
MAX_OUTPUT_BYTES = 1 << 20
"""Bytes of the file that is written: the daemon reads no more."""
