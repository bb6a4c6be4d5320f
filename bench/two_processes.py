"""What ucspid's design costs in Python at the least: one process accepts, others start the programs.

`two_processes.py PROGRAM [ARGUMENT ...]` listens on a port of 127.0.0.1 that it prints. An event
loop accepts and passes each socket to one of a few launchers, which start the program on it and
report its start and its end. There are no limits, log, environment or rules, nor is anything done
when something goes wrong.
"""

import asyncio
import os
import select
import signal
import socket
import struct
import sys

import uvloop

from ucspid.linux import prctl

BACKLOG = 1024
LAUNCHERS = len(os.sched_getaffinity(0)) + 1
ACCEPTS = 16
"""Connections accepted in one turn of the event loop, at most."""

REPORT = struct.Struct("=iii")
"""What a launcher says: kind, process, status."""
STARTED, EXITED = 1, 2

_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_RECEIVE = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_RIGHTS = struct.Struct("i")
_SPACE = socket.CMSG_SPACE(_RIGHTS.size)
_MAX_PACKET = 1 << 16


class Launcher:
    """A process that starts programs on the sockets that it receives."""

    def __init__(self, channel: socket.socket, program: list[str]) -> None:
        """Use the loop's channel; descriptor 0 is /dev/null."""
        self._channel = channel
        self._program = program
        self._signals = prctl.open_signalfd({signal.SIGCHLD})
        self._null = os.dup(0)
        self._running = 0
        os.dup2(self._null, 1)

    def run(self) -> None:
        """Serve until the loop is gone."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._signals, select.POLLIN)
        while True:
            reports = []
            for descriptor, _events in poll.poll():
                if descriptor == self._signals:
                    reports += self._reap()
                elif (report := self._start()) is not None:
                    reports.append(report)
                else:
                    return
            if reports:
                self._channel.send(b"".join(reports), _SEND)

    def _start(self) -> bytes | None:
        """Start a program on a socket that has come; return the report, or None if the loop is gone."""
        size, ancillary, _flags, _address = self._channel.recvmsg(1, _SPACE, _RECEIVE)
        if not size:
            return None
        (client,) = _RIGHTS.unpack(ancillary[0][2])
        os.dup2(client, 0)
        os.dup2(client, 1)
        process = os.posix_spawn(self._program[0], self._program, {}, setpgroup=0, setsigmask=())
        os.dup2(self._null, 0)
        os.dup2(self._null, 1)
        os.close(client)
        self._running += 1
        return REPORT.pack(STARTED, process, 0)

    def _reap(self) -> list[bytes]:
        prctl.read_signals(self._signals)
        reports = []
        while self._running:
            process, status, _usage = os.wait4(-1, os.WNOHANG)
            if not process:
                break
            self._running -= 1
            reports.append(REPORT.pack(EXITED, process, status))
        return reports


class Loop:
    """The process that accepts; a connection goes to the launcher that has the fewest starts to do."""

    def __init__(self, listener: socket.socket, launchers: list[socket.socket]) -> None:
        """Use a listener that does not block and the launchers' channels."""
        self._listener = listener
        self._launchers = launchers
        self._starting = dict.fromkeys(launchers, 0)

    async def run(self) -> None:
        """Serve for ever."""
        loop = asyncio.get_running_loop()
        for channel in self._launchers:
            loop.add_reader(channel.fileno(), self._hear, channel)
        loop.add_reader(self._listener.fileno(), self._accept)
        await loop.create_future()

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                # As in ucspid: the socket object that accept() makes costs more than the system call.
                client, _address = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            except BlockingIOError:
                return
            channel = min(self._launchers, key=self._starting.__getitem__)
            self._starting[channel] += 1
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, _RIGHTS.pack(client))
            channel.sendmsg([b"x"], [rights], _SEND)
            os.close(client)

    def _hear(self, channel: socket.socket) -> None:
        for kind, _process, _status in REPORT.iter_unpack(channel.recv(_MAX_PACKET, _SEND)):
            if kind == STARTED:
                self._starting[channel] -= 1


def main(program: list[str]) -> None:
    """Start the launchers, say the port, serve."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    channels: list[socket.socket] = []
    for _ in range(LAUNCHERS):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            for inherited in (listener, ours, *channels):
                inherited.close()
            Launcher(theirs, program).run()
            return
        theirs.close()
        channels.append(ours)
    print(listener.getsockname()[1], flush=True)
    uvloop.run(Loop(listener, channels).run())


if __name__ == "__main__":
    main(sys.argv[1:])
