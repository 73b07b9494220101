"""Time limits of HTTP connections, below the application: half-sent heads, and bodies that outlast their response.

uvicorn closes connections that are idle between two requests. It waits without limit for the rest of a request's head, and
for a body that comes on after the response; the application never hears of either.

`emotivetalk serve` installs the protocol in Serve's proxies through Serve's own hook, an import path in the environment
(`proxy_environment`). Elsewhere give `timed_protocol` to uvicorn as `http`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HOOK_ENV = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
HEADER_TIMEOUT_ENV = "EMOTIVETALK_HEADER_TIMEOUT_S"
_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


def timed_protocol(header_timeout_s: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with a limit on the time without a request under way.

    The time counts from the connection's begin, or from the first byte after a response, until the head of a request is
    complete. Between a response and the next byte uvicorn's own limit holds.
    """
    base: Any = AutoHTTPProtocol

    class TimedProtocol(base):
        _head_due: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.is_closing() or self._is_busy():
                self._cancel()
            elif self._head_due is None:
                self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel()
            super().connection_lost(exc)

        def _is_busy(self) -> bool:
            """Return True while a request is being answered."""
            return self.cycle is not None and not self.cycle.response_complete

        def _wait_for_head(self) -> None:
            self._head_due = self.loop.call_later(header_timeout_s, self._close_unless_busy)

        def _cancel(self) -> None:
            if self._head_due is not None:
                self._head_due.cancel()
                self._head_due = None

        def _close_unless_busy(self) -> None:
            self._head_due = None
            if not self._is_busy() and not self.transport.is_closing():
                self.transport.write(_ANSWER)
                self.transport.close()

    return TimedProtocol


def install() -> list[Any]:
    """Make the timed protocol uvicorn's default in this process. Serve's proxies call it before they listen.

    Returns:
        The ASGI middlewares to add, as the hook wants them: none.
    """
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:ProxyProtocol"
    return []


def proxy_environment(header_timeout_s: float) -> dict[str, str]:
    """Return the environment in which Serve's proxies limit the time of heads."""
    return {HOOK_ENV: f"{__name__}.install", HEADER_TIMEOUT_ENV: str(header_timeout_s)}


ProxyProtocol = timed_protocol(float(os.environ.get(HEADER_TIMEOUT_ENV, "20")))
