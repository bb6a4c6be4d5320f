"""A fixture: tests of a daemon, where its launchers matter, run with either kind."""

import os
from collections.abc import Iterator

import pytest

from daemon import Daemon
from ucspid.launcher.paths import NATIVE

KINDS = ("native", "python") if os.path.exists(NATIVE) else ("python",)
"""What there is here."""


@pytest.fixture(scope="module", params=(Daemon.launcher,) if Daemon.launcher else KINDS)
def each_launcher(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have all daemons of a test use one kind of launcher: each in turn, or what the tests are run for."""
    before = Daemon.launcher
    Daemon.launcher = request.param
    yield request.param
    Daemon.launcher = before
