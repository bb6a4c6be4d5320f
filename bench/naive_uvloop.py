"""A superserver as one writes it with asyncio alone: the floor that the bench calls uvloop subprocess_exec.

`naive_uvloop.py PROGRAM [ARGUMENT ...]` listens on a port of 127.0.0.1 that it prints.
"""

import asyncio
import socket
import sys

import uvloop

BACKLOG = 1024


async def serve(program: list[str]) -> None:
    """Accept for ever; a task waits for each program."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    tasks = set()
    while True:
        client, _address = await loop.sock_accept(listener)
        task = loop.create_task(run(program, client))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def run(program: list[str], client: socket.socket) -> None:
    """Run the program on a connection to its end."""
    client.setblocking(True)
    with client:
        descriptor = client.fileno()
        process = await asyncio.create_subprocess_exec(*program, stdin=descriptor, stdout=descriptor)
    await process.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1:]))
