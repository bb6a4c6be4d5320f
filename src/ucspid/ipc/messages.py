"""The messages between the processes of the daemon: one packet each, laid out as codec says.

Imported by launchers. What each side may send:

master   -> launcher: SetProgram, Preload, AllowNames, ForbidNames, RemovePrograms, Orphans, OrphanExit,
                      TakePrivileges
launcher -> master:   Ready, PrivilegesRefused, CannotLoad, Changed, SignalOrphan
loop     -> launcher: Start (with SOCKETS descriptors, or SOCKETS_WITH_TLS), Signal, ListSessions, Drain
launcher -> loop:     packets of one or more Reports (STARTED, FAILED, EXITED, RUNNING, LISTED, HELLO)
master   -> tls:      TakeTlsRights, UseMaterial (with one descriptor), Ping, Drain
tls      -> master:   Ready, MaterialTaken, MaterialRefused, Pong
loop     -> tls:      Secure (with two or three descriptors)
tls      -> loop:     Secured, NotSecured, SecureEnd
master   -> loop:     JSON (see master.loop_process)
loop     -> master:   Note (NOTE_READY, NOTE_TAKEN, NOTE_SETTLED, NOTE_MORE, NOTE_BROKEN, NOTE_RELOAD,
                      NOTE_UPGRADE, NOTE_VARIABLES, NOTE_ALONE, NOTE_FORECAST, NOTE_CONDITION,
                      NOTE_TLS_SILENT, NOTE_LOGGED)
"""

from collections.abc import Iterable, Iterator

from ucspid.codec import (
    I32,
    U8,
    U16,
    U32,
    U64,
    Bytes64,
    Flag,
    Numbers,
    OptNumbers,
    OptText,
    OptU32,
    OptU64,
    Packed,
    Rest,
    Strings,
    Text,
)
from ucspid.errors import WireError
from ucspid.profile import Profile

VERSION = 1
"""Of this protocol: a launcher says it to the master and to the loop before anything else."""

MAX_PACKET = 128 * 1024
"""Bytes; a packet must fit the kernel's default socket buffer."""

TAG_SIZE = 64
"""Bytes of the loop's own that a launcher keeps with each session and reports with it."""

STARTED, FAILED, EXITED, RUNNING, LISTED, HELLO = 16, 17, 18, 19, 20, 21
"""Kinds of a Report."""

MAX_IN_FLIGHT = 1024

SOCKETS, SOCKETS_WITH_TLS = 1, 3
"""Descriptors beside a Start: the client's socket; or that, a control one, and that of what TLS decrypts."""

CONTROL, PLAIN = 3, 4
"""As which descriptors a program has the two sockets beyond the client's, if there are any."""

STATUS_UNKNOWN = -1
"""Wait status of a program whose end nobody was there to see."""

NOTE_TAKEN, NOTE_MORE, NOTE_BROKEN, NOTE_RELOAD, NOTE_READY, NOTE_UPGRADE = 64, 65, 66, 67, 68, 69
NOTE_SETTLED, NOTE_VARIABLES, NOTE_ALONE, NOTE_FORECAST, NOTE_CONDITION = 70, 71, 72, 73, 74
NOTE_TLS_SILENT, NOTE_LOGGED = 75, 76
"""Kinds of a Note."""

MAX_CHUNK = 32 * 1024
"""Bytes of what one packet carries of something that can be of any size; more goes in further packets."""

STDERR_KEPT, STDERR_GIVEN, STDERR_CLIENT = 0, 1, 2
"""What a program's descriptor 2 is: the launcher's, the one beside SetProgram, the client's socket."""


class Start(Packed, kind=1):
    """Start a service's program on the socket beside it, or on the three: see SOCKETS_WITH_TLS.

    variables are NAME=VALUE strings of this connection, NUL between them. The tag comes with each report.
    """

    service: U32
    connection: U64
    tag: Bytes64
    variables: Rest


class Signal(Packed, kind=2):
    """A signal for the program of a connection, if that is this process."""

    number: U16
    process: U32
    connection: U64


class ListSessions(Packed, kind=3):
    """Report RUNNING for each session, then LISTED with this token."""

    token: U64


class Drain(Packed, kind=4):
    """No more starts will come: exit after the last program."""


class Report(Packed):
    """What a launcher says of a session; several may be in a packet.

    status is errno in FAILED, the wait status in EXITED, the version in HELLO; in LISTED the connection is
    the token. In HELLO and LISTED the process is the launcher's own, and the service is how many starts it
    takes before it has answered one, MAX_IN_FLIGHT at most. CPU time is in µs, memory in KiB.

    A launcher may report a program as STARTED and, if it cannot be executed after all, as FAILED.
    """

    kind: U8
    status: I32 = 0
    process: U32 = 0
    service: U32 = 0
    connection: U64 = 0
    user: U64 = 0
    system: U64 = 0
    max_rss: U64 = 0
    tag: Bytes64 = bytes(TAG_SIZE)


class Note(Packed):
    """What the loop says to the master.

    A plan is taken (number is its generation), more launchers are wanted (a profile), a launcher is broken
    (its number), a reload is wanted (with a token), all is loaded (VERSION), an upgrade is wanted (with a
    token), no connection that met an earlier plan is on its way (the generation), the rules file of a
    service sets new variables (its number), the loop no longer listens and goes on without the master, it
    is wanted what a reload would change (with a token), how
    the loop is (see condition.py), a TLS process has connections to shake hands with and says nothing (its
    number), one more event of the master's is logged.
    """

    kind: U8
    number: U32 = 0
    token: U64 = 0


class SetProgram(Packed, kind=33):
    """What a service runs from now on, and further variables that connections may set.

    environment has NAME=VALUE strings. The descriptor of standard error is beside it, if one is given.
    """

    service: U32
    stderr: U8
    executable: Text
    arguments: Strings
    environment: Strings
    names: Strings


class Preload(Packed, kind=39):
    """What a launcher imports once and runs in forks of itself: the program of its only service.

    It comes after SetProgram, whose executable is the interpreter, and whose arguments are sys.argv. Either
    script, a path, or module, PACKAGE.MODULE:FUNCTION, is given. modules are imported before. own is a
    module of ucspid's: the launcher imports it itself, and executes no interpreter.
    """

    watch: Flag
    own: Flag
    script: OptText
    module: OptText
    modules: Strings


class AllowNames(Packed, kind=35):
    """Further variables that connections of a service may set."""

    service: U32
    names: Strings


class ForbidNames(Packed, kind=36):
    """Variables that connections of a service may set no longer."""

    service: U32
    names: Strings


class RemovePrograms(Packed, kind=37):
    """Services that are not to be started any more."""

    services: Numbers


class Orphans(Packed, kind=38):
    """Programs of the launcher's predecessor that still run: some of them. Before TakePrivileges."""

    processes: Numbers


class TakePrivileges(Packed, kind=32):
    """What a launcher is to be; the first message that it answers.

    nofile is the soft limit of descriptors for programs, None for infinity.
    """

    version: U32
    nofile: OptU64
    title: Text
    profile: Profile

    @classmethod
    def of_this_version(cls, packet: bytes) -> "TakePrivileges":
        """Read one. Raises WireError if it is of another version of the protocol, whatever is in it."""
        version = int.from_bytes(packet[4:8], "little")
        if version != VERSION:
            raise WireError(
                f"the launcher that is installed speaks version {VERSION}, the daemon version {version}: "
                "run ucspid upgrade, or restart it"
            )
        return cls.unpack(packet)


class OrphanExit(Packed, kind=34):
    """How an orphan has ended: its wait status, CPU time in µs, peak memory in KiB."""

    process: U32
    status: I32
    user: U64
    system: U64
    max_rss: U64


class Ready(Packed, kind=48):
    """The launcher has taken its privileges, and serves."""

    version: U32


class PrivilegesRefused(Packed, kind=49):
    """Why a launcher cannot take its privileges; it exits with 111."""

    reason: Text


class CannotLoad(Packed, kind=51):
    """Why a launcher cannot import the program that it is to preload; it exits with 100."""

    reason: Text


class Changed(Packed, kind=52):
    """A file that a preloaded program was imported from has changed."""


class SignalOrphan(Packed, kind=50):
    """A signal for an orphan, of which the launcher is not the parent."""

    number: U16
    process: U32


class TakeTlsRights(Packed, kind=80):
    """What a TLS process is to be; its first message. It answers with Ready.

    secret is what the keys of session tickets are derived from, as of a period.
    """

    version: U32
    uid: OptU32
    gid: OptU32
    period: U64
    secret: Text
    groups: OptNumbers


class UseMaterial(Packed, kind=81):
    """Certificates and keys are in the memory beside it: use them from now on. Answered with their number."""

    number: U32


class MaterialTaken(Packed, kind=82):
    """The certificates with this number are in use."""

    number: U32


class MaterialRefused(Packed, kind=83):
    """Why the certificates with this number cannot be used; the previous ones stay in use."""

    number: U32
    reason: Text


class Secure(Packed, kind=84):
    """Make a TLS connection of a client's socket, with a context by its number, within some milliseconds.

    Beside it the client's socket and one end of a pair whose other end the program has; with starttls also
    one of a pair on which the program says when. described asks for the variables of ucspi-ssl as well.
    """

    starttls: Flag
    described: Flag
    timeout: U32
    context: U64
    connection: U64


class Secured(Packed, kind=85):
    """A handshake is done: what is known of the connection, and NAME=VALUE strings for its program.

    names are those of the client's certificate, fingerprint is its SHA-256, in hexadecimal.
    """

    resumed: Flag
    connection: U64
    version: Text
    cipher: Text
    sni: OptText
    alpn: OptText
    fingerprint: OptText
    names: Strings
    variables: Strings


class NotSecured(Packed, kind=86):
    """Why there is no TLS connection. It is closed."""

    connection: U64
    reason: Text


class Ping(Packed, kind=88):
    """Answer with Pong: that shows that a TLS process turns."""


class Pong(Packed, kind=89):
    """A TLS process turns."""


class SecureEnd(Packed, kind=87):
    """A TLS connection has not ended well: see tls.relay.PeerEnd; how many bytes its program got and sent."""

    end: U8
    connection: U64
    received: U64
    sent: U64
    reason: Text


def chunks_of_numbers(numbers: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Yield the numbers in tuples that fit a packet each."""
    ordered = sorted(numbers)
    for start in range(0, len(ordered), MAX_CHUNK // 4):
        yield tuple(ordered[start : start + MAX_CHUNK // 4])


def chunks_of_names(names: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Yield the names in tuples that fit a packet each."""
    chunk: list[bytes] = []
    size = 0
    for name in sorted(names):
        if chunk and size + len(name) > MAX_CHUNK:
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(name)
        size += len(name) + 4
    if chunk:
        yield tuple(chunk)
