"""The daemon end to end: one connection's way through it."""

from pathlib import Path

from daemon import running


def test_a_program_gets_the_connection(tmp_path: Path) -> None:
    config = {"services": {"echo": {"listen": "127.0.0.1:0", "program": ["cat"]}}}
    with running(tmp_path, config) as daemon:
        assert daemon.talk("echo", b"hello") == b"hello"
        ended = daemon.wait_event("connection_served", service="echo")
        assert ended["status"] == 0
        assert ended["remote"].startswith("127.0.0.1:")
        assert daemon.service("echo")["served"] == 1
