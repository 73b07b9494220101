"""Middleware of every HTTP exchange: request id, span, counters, and draining of refused bodies."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emotivetalk.actors.serving.observing import tracing
from emotivetalk.actors.serving.observing.meters import METHODS, Meters
from emotivetalk.errors import EmotiveTalkError

DRAIN_S = 2.0
DRAIN_BYTES = 64_000_000
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
READING = {"GET", "HEAD", "OPTIONS"}  # polled by clients, so traced only if the client traces them

log = logging.getLogger(__name__)


class Edge:
    """The ASGI middleware."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the exchange and record it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._meters)
        self._meters.http_open.add(1)
        try:
            await self._traced(exchange, scope)
        except EmotiveTalkError as error:
            if exchange.status is None:
                raise
            # The head is sent, so the only way left to signal the error is an unfinished body.
            log.info("response cut off: %s", error, extra={"request_id": exchange.request_id})
        finally:
            self._meters.http_open.add(-1)
            exchange.count()

    async def _traced(self, exchange: _Exchange, scope: Scope) -> None:
        parent = Headers(scope=scope).get(tracing.HEADER)
        if parent is None and scope["method"] in READING:
            await self._app(scope, exchange.receive, exchange.send)
            return
        attributes = {"http.request.method": exchange.method, "request_id": exchange.request_id}
        with tracing.span(exchange.method, parent, kind=tracing.SpanKind.SERVER, **attributes) as span:
            try:
                await self._app(scope, exchange.receive, exchange.send)
            finally:
                span.update_name(f"{exchange.method} {exchange.route}")
                span.set_attribute("http.route", exchange.route)
                if exchange.status is not None:
                    span.set_attribute("http.response.status_code", exchange.status)
                    if exchange.status >= 500:
                        span.set_status(tracing.ERROR)


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, meters: Meters) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.method = scope["method"] if scope["method"] in METHODS else "other"
        self.status: int | None = None
        self._scope, self._receive, self._send, self._meters = scope, receive, send, meters
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
                # A client that is still sending would see a reset connection instead of the response.
                await self._drain()
                if not self._body_ended:
                    headers["connection"] = "close"
            self.status = message["status"]
            self._meters.http_seconds.observe(time.perf_counter() - self._begun, self.method, self.route)
        await self._send(message)

    def count(self) -> None:
        status = "none" if self.status is None else str(self.status)
        self._meters.http_requests.add(1, self.method, self.route, status)

    @property
    def route(self) -> str:
        """The pattern of the path; paths themselves would be unbounded in metrics."""
        return getattr(self._scope.get("route"), "path", "unmatched")

    async def _drain(self) -> None:
        if not self._may_drain:
            return
        num_bytes = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self._body_ended and num_bytes < DRAIN_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))
