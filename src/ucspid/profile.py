"""The privileges that a launcher takes, and its programs have from it.

A new one is a field here; it needs a key in config.schema, a value in config.profiles, and to be taken in
linux.privileges. Imported by launchers.
"""

from ucspid.codec import Flag, NamedLimits, OptI32, OptNumbers, OptText, OptU32, Packed


class Profile(Packed):
    """A privilege profile: taken once, at a launcher's start; None leaves as it is.

    rlimits has names of setrlimit(2) in lower case without RLIMIT_, sorted, and values, None for infinity.
    Paths are absolute; cwd is inside root.
    """

    uid: OptU32 = None
    gid: OptU32 = None
    groups: OptNumbers = None
    umask: OptU32 = None
    cwd: OptText = None
    root: OptText = None
    nice: OptI32 = None
    rlimits: NamedLimits = ()
    no_new_privs: Flag = False
