"""The names of the tools, and what carries them out."""

TOOLS = {
    "addcr": "ucspid.tools.addcr",
    "argv0": "ucspid.tools.argv0",
    "date@": "ucspid.tools.date",
    "delcr": "ucspid.tools.delcr",
    "finger@": "ucspid.tools.finger",
    "fixcrio": "ucspid.tools.fixcrio",
    "http@": "ucspid.tools.http",
    "https@": "ucspid.tools.https",
    "mconnect": "ucspid.tools.mconnect",
    "mconnect-io": "ucspid.tools.mconnect_io",
    "rblsmtpd": "ucspid.tools.rblsmtpd",
    "recordio": "ucspid.tools.recordio",
    "tcpcat": "ucspid.tools.tcpcat",
    "tcpclient": "ucspid.tools.tcpclient",
    "tcprules": "ucspid.tools.tcprules",
    "tcprulescheck": "ucspid.tools.tcprulescheck",
    "tcpserver": "ucspid.tcpserver.main",
    "tlsclient": "ucspid.tools.tlsclient",
    "who@": "ucspid.tools.who",
}
"""By name: the module whose main(argv) is the tool. argv is in bytes, argv[0] is what it was called by."""

NEED_PACKAGES = frozenset({"tcpserver"})
"""Tools that use more than the standard library: their links start an interpreter that has it."""
