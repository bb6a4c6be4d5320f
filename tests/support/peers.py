"""Programs of others that tests compare with and talk to; without them tests are skipped, and say why."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = os.environ.get("UCSPID_REQUIRE_PEERS") == "1"
"""Whether a missing peer fails the tests that need it, as it does in CI."""

PACKAGES = {
    "axfrdns": "axfrdns",
    "chromium": "chromium",
    "curl": "curl",
    "mandoc": "mandoc",
    "fail2ban-regex": "fail2ban",
    "execlineb": "execline",
    "fish": "fish",
    "haproxy": "haproxy",
    "inetd": "openbsd-inetd",
    "ipsvd-cdb": "ipsvd",
    "pop3front-auth": "mailfront",
    "pop3front-maildir": "mailfront",
    "qmtpfront-echo": "mailfront",
    "smtpfront-echo": "mailfront",
    "runsv": "runit",
    "s6-accessrules-cdb-from-fs": "s6",
    "s6-ipcclient": "s6",
    "s6-ipcserver": "s6",
    "s6-supervise": "s6",
    "s6-svstat": "s6",
    "svstat": "daemontools",
    "s6-svc": "s6",
    "supervise": "daemontools",
    "sv": "runit",
    "svc": "daemontools",
    "stunnel4": "stunnel4",
    "swaks": "swaks",
    "systemd-socket-activate": "systemd",
    "tinysshd": "tinysshd",
    "tinysshd-makekey": "tinysshd",
    "tcpdmatch": "tcpd",
    "tcprules": "ucspi-tcp",
    "tcprulescheck": "ucspi-tcp",
    "tcpserver": "ucspi-tcp",
    "tcpsvd": "ipsvd",
    "tmux": "tmux",
    "promtool": "prometheus",
    "xinetd": "xinetd",
    "zsh": "zsh",
}
"""The Debian package that has each peer."""

UNPACKED = Path(sys.prefix) / "peers" / "usr" / "sbin"
"""Where make unpacks packages that are not to be installed."""

_PATH = os.pathsep.join(
    [
        str(UNPACKED),
        str(UNPACKED.with_name("bin")),
        os.environ.get("PATH", os.defpath),
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
    ]
)


def require(name: str) -> str:
    """Return the path of a peer; skip the test that needs it, or fail it, where it is not installed.

    Called at the top of a module it is about all tests of the module.
    """
    path = shutil.which(name, path=_PATH)
    if path is None:
        lacking(f"{name} is not installed (Debian package: {PACKAGES[name]})")
    return str(Path(path).absolute())


def lacking(reason: str) -> NoReturn:
    """Skip the test for want of something to compare with, or fail it where peers are required."""
    if REQUIRED:
        pytest.fail(f"UCSPID_REQUIRE_PEERS=1 and {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)
