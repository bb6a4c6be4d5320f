"""The HTTP server: metrics, health, the page. It answers GET alone, and what it is asked changes nothing."""

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ucspid.errors import PeerError
from ucspid.web import page
from ucspid.web.feed import Feed
from ucspid.web.metrics import TROUBLE, StatusCollector

EVERY = 2.0
"""Seconds between two pictures of a page that is open."""

MAX_OPEN = 32
"""Pages that may be open at a time."""

MAX_SESSIONS = 200
"""Sessions that a page shows."""

HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src {_hash(page.STYLE)}; "
    f"script-src {_hash(page.SCRIPT)}; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class StatusServer:
    """Answers from a feed."""

    def __init__(self, feed: Feed, *, loopback: bool) -> None:
        """On a loopback address only requests to such a host are answered, or to localhost.

        Otherwise any page in a browser of this host could have its own name lead here, and read on.
        """
        self._feed = feed
        self._loopback = loopback
        self._open = 0
        self.app = web.Application(middlewares=[self._guarded])
        self.app.add_routes(
            [
                web.get("/", self._page),
                web.get("/service/{name}", self._page),
                web.get("/client/{ip}", self._page),
                web.get("/live", self._live),
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
            ]
        )

    @web.middleware
    async def _guarded(self, request: web.Request, handler: HttpHandler) -> web.StreamResponse:
        if self._loopback and not _is_here(request.host):
            return web.Response(status=421, text="this host is not known here\n", headers=HEADERS)
        try:
            response = await handler(request)
        except (PeerError, TimeoutError, ConnectionError) as problem:
            return web.Response(status=503, text=str(problem) + "\n", headers=HEADERS)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _metrics(self, request: web.Request) -> web.Response:
        registry = CollectorRegistry()
        registry.register(StatusCollector(await self._feed.status()))
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": kind})

    async def _healthz(self, _request: web.Request) -> web.Response:
        await self._feed.status()
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        services = (await self._feed.status())["services"]
        troubled = [f"{item['name']}: {item['state']}\n" for item in services if item["state"] in TROUBLE]
        return web.Response(status=503 if troubled else 200, text="".join(troubled) or "ready\n")

    async def _page(self, request: web.Request) -> web.Response:
        body = await self._picture(request.path)
        if body is None:
            return web.Response(status=404, text="there is no such page\n")
        return web.Response(text=page.document(body, f"ucspid {request.path}"), content_type="text/html")

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Send the picture of a page again and again: server-sent events."""
        if self._open >= MAX_OPEN:
            return web.Response(status=503, text=f"{MAX_OPEN} pages are open already\n")
        at = request.query.get("at", "/")
        if await self._picture(at) is None:
            return web.Response(status=404, text="there is no such page\n")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._open += 1
        try:
            while not self._feed.ended.is_set():
                body = await self._picture(at) or ""
                lines = "".join(f"data: {line}\n" for line in body.splitlines())
                await response.write(f"{lines}\n".encode())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._feed.ended.wait(), EVERY)
        finally:
            self._open -= 1
        return response

    async def _picture(self, path: str) -> str | None:
        """Return what lives on a page; None if there is none at that path."""
        feed = self._feed
        await feed.look()
        status, events = await feed.status(), feed.events
        match path.strip("/").split("/"):
            case [""]:
                return page.overview(status, events)
            case ["service", name] if any(service["name"] == name for service in status["services"]):
                return page.of_service(status, name, await self._sessions({"service": name}), events)
            case ["client", ip]:
                return page.of_client(ip, await self._sessions({"ip": ip}), events)
        return None

    async def _sessions(self, which: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self._feed.ask("sessions", which | {"most": MAX_SESSIONS})
        found: list[dict[str, Any]] = answer["sessions"]
        return found


def _is_here(host: str) -> bool:
    """Say whether the host of a request is this one's loopback."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
