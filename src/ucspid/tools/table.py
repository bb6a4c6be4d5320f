"""The names of the tools, and what carries them out."""

TOOLS = {
    "argv0": "ucspid.tools.argv0",
}
"""By name: the module whose main(argv) is the tool. argv is in bytes, argv[0] is what it was called by."""

NEED_PACKAGES = frozenset({"tcpserver"})
"""Tools that use more than the standard library: their links start an interpreter that has it."""
