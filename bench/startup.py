"""What the tools take from their start to their end, beside Debian's: python -m bench.startup [ROUNDS].

Each round runs every command once, one after the other, on an idle connection or an empty input, so that
nearly all of it is the start; tcpserver is measured until it says its port. Milliseconds: the least of all
rounds, and the median.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

DEBIAN = Path("/usr/bin")
ROUNDS = 50
SERVER = "tcpserver"


def commands(port: str, rules: str) -> dict[str, list[str]]:
    """Return the words of each tool."""
    return {
        "addcr": ["addcr"],
        "argv0": ["argv0", "/bin/true", "true"],
        "delcr": ["delcr"],
        "fixcrio": ["fixcrio", "/bin/true"],
        "http@": ["http@", "127.0.0.1", "", port],
        "mconnect": ["mconnect", "127.0.0.1", port],
        "rblsmtpd": ["rblsmtpd", "/bin/true"],
        "recordio": ["recordio", "/bin/true"],
        "tcpcat": ["tcpcat", "127.0.0.1", port],
        "tcpclient": ["tcpclient", "-RHl0", "127.0.0.1", port, "/bin/true"],
        "tcprules": ["tcprules", rules, f"{rules}.tmp"],
        "tcprulescheck": ["tcprulescheck", rules],
        SERVER: [SERVER, "-1RHl0", "127.0.0.1", "0", "/bin/true"],
    }


def answering() -> str:
    """Have a server that says nothing and closes; return its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    def serve() -> None:
        while True:
            listener.accept()[0].close()

    threading.Thread(target=serve, daemon=True).start()
    return str(listener.getsockname()[1])


def measure(words: list[str]) -> float:
    """Run a command; return the milliseconds until its end."""
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]
    began = time.perf_counter()
    child = os.posix_spawn(words[0], words, dict(os.environ), file_actions=actions)
    os.waitpid(child, 0)
    taken = time.perf_counter() - began
    os.close(null)
    return taken * 1000


def measure_server(words: list[str]) -> float:
    """Start a server; return the milliseconds until it has said its port, and end it."""
    began = time.perf_counter()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        taken = time.perf_counter() - began
        server.terminate()
    return taken * 1000


def contestants(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield tool, implementation and command of each."""
    links = folder / "links"
    links.mkdir()
    subprocess.run([sys.executable, "-m", "ucspid", "links", str(links)], check=True)
    ucspid = str(Path(sys.executable).with_name("ucspid"))
    yield "(nothing)", "link", [sys.executable, "-IS", "-c", "pass"]
    for tool, words in commands(answering(), str(folder / "rules.cdb")).items():
        yield tool, "Debian", [str(DEBIAN / tool), *words[1:]]
        yield tool, "link", [str(links / tool), *words[1:]]
        yield tool, "ucspid", [ucspid, *words]


def main() -> None:
    """Measure, and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        entered = list(contestants(Path(folder)))
        times: dict[tuple[str, str], list[float]] = {(tool, kind): [] for tool, kind, _words in entered}
        for _ in range(rounds):
            for tool, kind, words in entered:
                times[tool, kind].append((measure_server if tool == SERVER else measure)(words))
    print("| tool | Debian | link | `ucspid TOOL` |\n| --- | --- | --- | --- |")
    for tool in dict.fromkeys(tool for tool, _kind, _words in entered):
        cells = [times.get((tool, kind), []) for kind in ("Debian", "link", "ucspid")]
        shown = [f"{min(cell):.1f} / {statistics.median(cell):.1f}" if cell else "" for cell in cells]
        print(f"| `{tool}` | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
