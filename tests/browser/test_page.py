"""The status page in a real browser: it lives, reports no error, is narrow enough, and accessible."""

from collections.abc import Iterator
from typing import Any

import pytest

from browser import Browser, axe, browsing
from daemon import Daemon, running
from folders import public_folder
from free_ports import free_port

SHOWN = (("light", 1200, 800), ("dark", 1200, 800), ("light", 390, 844))
PAGES = ("/", "/service/echo", "/client/127.0.0.1")

VIOLATIONS = (
    "axe.run().then(found => found.violations.map(({id, nodes}) => [id, nodes.map(node => node.html)]))"
)
"""What axe-core has to say against a page."""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Return a daemon with a full service, one that refuses, a session, and failures."""
    services: dict[str, Any] = {
        "echo": {"program": ["cat"], "max_connections": 1},
        "shut": {
            "program": ["cat"],
            "default_action": "deny",
            "rules": [{"from": "192.0.2.1", "allow": None}],
        },
        "crash": {"program": ["sh", "-c", "kill -SEGV $$"]},
    }
    for service in services.values():
        service["listen"] = "127.0.0.1:0"
    config = {"services": services, "web": {"listen": f"127.0.0.1:{free_port()}"}}
    with public_folder() as folder, running(folder, config) as daemon:
        yield daemon


def load(browser: Browser, url: str) -> None:
    """Show a page, wait until it lives, and put axe-core into it."""
    browser.load(url)
    live = """new Promise(done => {
        const state = document.getElementById("state");
        const look = () => state.textContent === "live" && done();
        new MutationObserver(look).observe(state, {childList: true});
        look();
    })"""
    browser.evaluate(live)
    browser.evaluate(f"{axe()}; null")


def violations(browser: Browser, scheme: str, width: int, height: int) -> list[Any]:
    """Return what is wrong with the page in light or dark, on a screen of a size."""
    browser.do(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
    )  # fmt: skip
    browser.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    assert browser.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    found: list[Any] = browser.evaluate(VIOLATIONS)
    return found


def test_axe_finds_nothing_in_light_and_dark_wide_and_narrow(daemon: Daemon) -> None:
    url = f"http://{daemon.config['web']['listen']}"
    with daemon.connect("echo") as session, browsing() as browser:
        session.sendall(b"x")
        assert session.recv(1) == b"x"
        daemon.talk("crash")
        daemon.talk("shut")
        daemon.wait_event("connection_refused", service="shut")
        for page in PAGES:
            load(browser, url + page)
            for scheme, width, height in SHOWN:
                assert violations(browser, scheme, width, height) == [], (page, scheme, width)
        assert browser.errors == []
        browser.evaluate("document.body.style.color = '#999'; document.body.style.background = '#aaa'; null")
        assert [name for name, _places in browser.evaluate(VIOLATIONS)] == ["color-contrast"]  # axe looks
