"""A headless Chromium, driven over a pair of pipes (--remote-debugging-pipe): no port, no library."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from peers import lacking, require

AXE = Path(sys.prefix) / "peers" / "axe.min.js"
"""axe-core, where make puts it."""

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--remote-debugging-pipe", "about:blank",
)  # fmt: skip
"""No sandbox: it does not start as root with one, and shows nothing but the test's own page."""


def axe() -> str:
    """Return the source of axe-core; skip the test where it is not, or fail it where peers are required."""
    if not AXE.exists():
        lacking("axe-core is not there (npm package axe-core, by make test-browser)")
    return AXE.read_text()


class Browser:
    """One page of it. What goes wrong in the page is in errors."""

    def __init__(self, commands: int, answers: int) -> None:
        self.errors: list[str] = []
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb")
        self._ids = itertools.count(1)
        self._session: str | None = None
        self._loaded = False

    def open(self) -> Self:
        """Attach to its only page."""
        targets = self.do("Target.getTargets")["targetInfos"]
        (target,) = (item["targetId"] for item in targets if item["type"] == "page")
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.do(f"{domain}.enable")
        return self

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Carry out a method of the DevTools protocol; return its result."""
        number = next(self._ids)
        session = {} if self._session is None else {"sessionId": self._session}
        command = {"id": number, "method": method, "params": params, **session}
        self._commands.write(json.dumps(command).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            """An event, of which _next() has taken note."""
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def load(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self._loaded = False
        self.do("Page.navigate", url=url)
        while not self._loaded:
            self._next()

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, awaited."""
        done = self.do("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"])
        return done["result"].get("value")

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has exited"
            message += byte
        found: dict[str, Any] = json.loads(message)
        match found:
            case {"method": "Page.loadEventFired"}:
                self._loaded = True
            case {"method": "Runtime.exceptionThrown", "params": params}:
                self.errors.append(str(params["exceptionDetails"]))
            case {"method": "Log.entryAdded", "params": {"entry": {"level": "error", "text": text}}}:
                self.errors.append(text)
        return found

    def close(self) -> None:
        self._commands.close()
        self._answers.close()


@contextmanager
def browsing() -> Iterator[Browser]:
    """Yield a browser; it exits when its pipe is closed."""
    chromium = require("chromium")
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        redirected = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", redirected, "bash", chromium, f"--user-data-dir={profile}", *OPTIONS]
        process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for descriptor in (theirs_in, theirs_out):
            os.close(descriptor)
        browser = Browser(ours_in, ours_out)
        try:
            yield browser.open()
        finally:
            browser.close()
            process.terminate()
            process.wait()
