"""The daemon started with little of something: it works, or says which limit is in the way."""

import subprocess
import sys
from pathlib import Path

import pytest

from daemon import TIMEOUT, Daemon, running

SERVICES = {
    "plain": {"listen": "127.0.0.1:0", "program": ["cat"]},
    "named": {
        "listen": "127.0.0.1:0",
        "program": ["cat"],
        "lookup": {"remote_host": True, "timeout": "100ms"},
    },
}
UCSPID = [sys.executable, "-m", "ucspid"]


def limited(**limits: int) -> list[str]:
    return ["prlimit", *(f"--{name}={value}" for name, value in limits.items()), *UCSPID]


@pytest.mark.parametrize(
    "limits",
    [{"as": 4_000_000_000, "data": 4_000_000_000, "stack": 4_000_000_000}, {"nofile": 64}],
    ids=["as_softlimit_-m_sets_them", "descriptors"],
)
def test_it_serves_under_limits_that_others_serve_under(tmp_path: Path, limits: dict[str, int]) -> None:
    with running(tmp_path, {"services": SERVICES}, command=limited(**limits)) as daemon:
        for service in SERVICES:
            assert daemon.talk(service, b"hello") == b"hello"


@pytest.mark.parametrize("limit", [10, 16, 20])
def test_where_descriptors_do_not_do_the_limit_is_named(tmp_path: Path, limit: int) -> None:
    config = Daemon(tmp_path, {"services": SERVICES}).config_path
    command = [*limited(nofile=limit), "run", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT, text=True)
    assert done.returncode == 111
    assert done.stderr.endswith(f"Too many open files: the limit is {limit}, see ulimit -n or LimitNOFILE=\n")
