"""What every HTTP exchange has round it: a request id, counting, and refusing a body without cutting the line."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.serving.gateway.metrics import HttpMetrics
from media.errors import EmotiveTalkError

DRAIN_S = 2.0
DRAIN_BYTES = 64_000_000
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger(__name__)


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the exchange on, and note how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._metrics)
        self._metrics.open.inc()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except EmotiveTalkError as error:
            if exchange.status is None:
                raise
            # The head is out: leaving the body unfinished is the only way left to say that it is not all.
            log.info("answer broken off: %s", error, extra={"request_id": exchange.request_id})
        finally:
            self._metrics.open.dec()
            exchange.count()


class _Exchange:
    """One request and its answer, as they pass by."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, metrics: HttpMetrics) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.status: int | None = None
        self._scope, self._receive, self._send, self._metrics = scope, receive, send, metrics
        self._body_ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._may_drain = "expect" not in headers
        self._begun = time.perf_counter()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_ended = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers["x-request-id"] = self.request_id
            if message["status"] >= 400 and not self._body_ended:
                # A client that is still sending sees a reset line instead of the answer if we close on it at once.
                await self._drain()
                if not self._body_ended:
                    headers["connection"] = "close"
            self.status = message["status"]
            self._metrics.seconds.labels(self._scope["method"], self._route()).observe(
                time.perf_counter() - self._begun
            )
        await self._send(message)

    def count(self) -> None:
        status = "none" if self.status is None else str(self.status)
        self._metrics.requests.labels(self._scope["method"], self._route(), status).inc()

    def _route(self) -> str:
        """The path's pattern; never the path itself, of which there is no end."""
        return getattr(self._scope.get("route"), "path", "unmatched")

    async def _drain(self) -> None:
        if not self._may_drain:
            return
        num_bytes = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self._body_ended and num_bytes < DRAIN_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))
