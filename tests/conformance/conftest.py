"""Every test runs twice: against Debian's ucspi-tcp, so that it expects what the original does, and ours."""

import subprocess
import sys
from pathlib import Path

import pytest

import peers
from tool_programs import Tools

DEBIAN = Path("/usr/bin")


@pytest.fixture(scope="session")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with our tools."""
    folder = tmp_path_factory.mktemp("links")
    subprocess.run([sys.executable, "-m", "ucspid", "links", str(folder)], check=True, timeout=30)
    return folder


@pytest.fixture(params=["debian", "ucspid"])
def tools(request: pytest.FixtureRequest, links: Path) -> Tools:
    """Return an implementation of the tools."""
    if request.param == "ucspid":
        return Tools("ucspid", links)
    if not (DEBIAN / "tcpclient").exists():
        peers.lacking("Debian's ucspi-tcp is not installed")
    return Tools("debian", DEBIAN)


@pytest.fixture
def ours(links: Path) -> Tools:
    """Return our tools, for what the originals do not have."""
    return Tools("ucspid", links)
