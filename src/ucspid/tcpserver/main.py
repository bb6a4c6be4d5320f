"""The command tcpserver: reads its command line, binds, and becomes the master of a daemon.

It goes in the order of ucspi-tcp: port and host, bind, listen, then the group and the user. So errors are
in its words. Root takes the user and the group for the event loop and the launchers, as the daemon does, and
anybody else at once for all. Signals are left as they are but for SIGTERM, SIGCHLD and SIGPIPE.
"""

import os
import pwd
import signal
import socket
import sys
from collections.abc import Mapping
from typing import NoReturn

from ucspid.launcher.usable import why_not_native
from ucspid.master.parts import Given
from ucspid.master.start import open_standard_descriptors, run_given
from ucspid.net.endpoint import Endpoint
from ucspid.profile import Profile
from ucspid.tcpserver.config_file import config_file
from ucspid.tcpserver.hosts import address_of, scope_of
from ucspid.tcpserver.options import (
    MAX_ID,
    MAX_PORT,
    QUIET,
    USAGE,
    CommandLine,
    UsageError,
    number,
    parse,
)
from ucspid.tcpserver.planned import plan, wanted_ids
from ucspid.tools.messages import EXIT_USAGE, ToolError, system_error, write_line
from ucspid.tools.process import environment, ignore_sigpipe

FATAL = b"tcpserver: fatal: "
_NOBODY = 65534
"""What the system calls nobody, where it has no such name."""


def main(argv: list[bytes]) -> int:
    """Run until the daemon ends; return its exit code. Raises ToolError for what tcpserver reports itself."""
    name = os.path.basename(argv[0])
    environ = {os.fsdecode(key): os.fsdecode(value) for key, value in environment().items()}
    try:
        options = parse([os.fsdecode(word) for word in argv[1:]], environ)
    except UsageError as problem:
        write_line(name, b": ", os.fsencode(str(problem)))
        raise ToolError(EXIT_USAGE, USAGE.encode()) from None
    try:
        return _serve(options, environ)
    except ToolError as problem:
        if options.verbosity == QUIET:
            return problem.code
        raise


def _serve(options: CommandLine, environ: Mapping[str, str]) -> int:
    open_standard_descriptors()
    if options.host is None or options.port is None:
        _usage()
    port = _port(options.port)
    if not options.program:
        _usage()
    ids = Profile() if os.geteuid() else wanted_ids(options)
    loop = _loop(ids)
    listen = Endpoint(address_of(options, loop), port)
    scope = scope_of(options)
    if options.print_config:
        is_root = os.geteuid() == 0
        sys.stdout.write(config_file(options, listen, environ, os.getcwd(), is_root=is_root))
        sys.stdout.flush()
        return 0
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))  # until the master reads signals
    sock = _listening(listen, options, scope)
    if os.geteuid():
        _take_ids(options)
    bound = Endpoint(listen.host, sock.getsockname()[1])
    ready = os.dup(1) if options.print_port else None
    _release_standard_descriptors()
    given = Given(
        plan=plan(
            options, bound, environ, os.getcwd(), ids, loop, "python" if why_not_native() else "native"
        ),
        name=f"tcpserver {bound}",
        listening=(sock,),
        ready=b"%d\n" % bound.port,
    )
    ignore_sigpipe()
    return run_given(given, ready)


def _usage() -> NoReturn:
    raise ToolError(EXIT_USAGE, USAGE.encode())


def _port(text: str) -> int:
    """Return the number of a port, as much of it as fits, or of a service by its name. Raises ToolError."""
    if text.isascii() and (text.isdecimal() or not text):
        return number(text) & MAX_PORT
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        raise ToolError(111, FATAL, b"unable to figure out port number for ", os.fsencode(text)) from None


def _listening(listen: Endpoint, options: CommandLine, scope: int) -> socket.socket:
    """Return a socket that listens. Raises ToolError."""
    family = socket.AF_INET if listen.family == "inet" else socket.AF_INET6
    doing = b"unable to create socket: "
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        doing = b"unable to bind: "
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, listen.family == "inet6")
        where = (listen.host or "::", listen.port)
        sock.bind(where if family == socket.AF_INET else (*where, 0, scope))
        doing = b"unable to listen: "
        sock.listen(min(options.backlog, 0x7FFFFFFF))
    except OSError as problem:
        raise system_error(problem, FATAL, doing) from None
    return sock


def _take_ids(options: CommandLine) -> None:
    """Take the group and the user, where they are given and the system allows it. Raises ToolError."""
    doing = b"unable to set gid: "
    try:
        if gid := options.gid & MAX_ID:
            os.setgroups([gid])
            os.setgid(gid)
        doing = b"unable to set uid: "
        if uid := options.uid & MAX_ID:
            os.setuid(uid)
    except OSError as problem:
        raise system_error(problem, FATAL, doing) from None


def _loop(ids: Profile) -> Profile:
    """Return as whom the event loop runs: as the programs do; as nobody where that would be root."""
    if os.geteuid():
        return Profile()
    uid, gid = ids.uid, ids.gid
    if uid is None or gid is None:
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            uid, gid = uid or _NOBODY, gid or _NOBODY
        else:
            uid, gid = uid or nobody.pw_uid, gid or nobody.pw_gid
    return Profile(uid=uid, gid=gid, groups=ids.groups or ())


def _release_standard_descriptors() -> None:
    """Close 0 and 1, as tcpserver does; what is opened next does not get their numbers."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    if null > 2:  # noqa: PLR2004 - standard error
        os.close(null)
