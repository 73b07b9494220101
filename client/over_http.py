"""The client's HTTP side: `/v1/videos`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from emotivetalk.actors.errors import JobNotFoundError
from emotivetalk.client.videos import (
    CHUNK_BYTES,
    UPLOAD_TIMEOUT_S,
    LiveOrder,
    Order,
    Source,
    Video,
    VideoError,
    VideoPage,
    said_by_service,
    timed_out,
    unreachable,
)
from emotivetalk.errors import EmotiveTalkError, InputError

VIDEOS = "/v1/videos"


class HttpTransport:
    """One connection pool to `http(s)://host:port`."""

    def __init__(self, address: str, token: str | None, timeout_s: float, certificates: Path | None) -> None:
        self._address = address.rstrip("/")
        self._timeout_s = timeout_s
        self._client = httpx.Client(
            base_url=self._address,
            headers={} if token is None else {"authorization": f"Bearer {token}"},
            timeout=timeout_s,
            verify=True if certificates is None else _trust(certificates),
            follow_redirects=False,  # a token goes to nobody else
        )

    def create(self, order: Order) -> Video:
        fields: dict[str, str] = {name: str(value) for name, value in order.settings().items()}
        if order.webhook_url is not None:
            fields["webhook_url"] = order.webhook_url
        sources: dict[str, Source] = {"portrait": order.portrait, "audio": order.audio}
        if order.emotion is not None and order.shown is not None:
            sources[f"emotion_{order.emotion['kind']}"] = order.shown
        elif order.emotion is not None:
            fields["emotion"] = json.dumps(order.emotion)
        with ExitStack() as stack:
            files: list[tuple[str, Any]] = []
            for name, source in sources.items():
                if isinstance(source, Path):
                    files.append((name, (source.name, stack.enter_context(source.open("rb")))))
                else:
                    fields[name] = source
            # A form even without files, so that the fields are the same texts in any case.
            files = files or [("portrait", (None, fields.pop("portrait")))]
            return _video(
                self._json(
                    "POST",
                    VIDEOS,
                    data=fields,
                    files=files,
                    headers={"idempotency-key": order.idempotency_key},
                    timeout=httpx.Timeout(self._timeout_s, read=UPLOAD_TIMEOUT_S),
                )
            )

    def get(self, video_id: str) -> Video:
        return _video(self._json("GET", f"{VIDEOS}/{_safe(video_id)}"))

    def list(self, limit: int, after: str | None, order: str, status: str | None) -> VideoPage:
        given = {"limit": limit, "after": after, "order": order, "status": status}
        page = self._json("GET", VIDEOS, params={name: value for name, value in given.items() if value is not None})
        return VideoPage(tuple(map(_video, page["data"])), page["has_more"])

    def watch(self, video_id: str) -> Iterator[Video]:
        with self._reading(f"{VIDEOS}/{_safe(video_id)}/events", None) as response:
            event = ""
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == "deleted":
                    raise JobNotFoundError(video_id)
                elif name == "data":
                    yield _video(json.loads(value))

    def stream(self, video_id: str) -> Iterator[bytes]:
        try:
            with self._reading(f"{VIDEOS}/{_safe(video_id)}/stream", None) as response:
                yield from response.iter_bytes(CHUNK_BYTES)
        except EmotiveTalkError as error:
            if error.code == "service_unreachable":
                # A failed video's stream can only break off; the address of the finished file says why.
                with self._reading(f"{VIDEOS}/{_safe(video_id)}/content", self._timeout_s):
                    raise error
            raise

    def content(self, video_id: str) -> Iterator[bytes]:
        with self._reading(f"{VIDEOS}/{_safe(video_id)}/content", self._timeout_s) as response:
            yield from response.iter_bytes(CHUNK_BYTES)

    def live(self, order: LiveOrder) -> Iterator[bytes]:
        raise InputError(
            "live_needs_grpc",
            "live video goes both ways at once, which HTTP cannot",
            'Connect with Client("127.0.0.1:9000", protocol="grpc").',
        )

    def cancel(self, video_id: str) -> Video:
        return _video(self._json("POST", f"{VIDEOS}/{_safe(video_id)}/cancel"))

    def delete(self, video_id: str) -> None:
        self._json("DELETE", f"{VIDEOS}/{_safe(video_id)}")

    def close(self) -> None:
        self._client.close()

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with self._saying():
            response = self._client.request(method, path, **options)
            _check(response)
            return response.json()

    @contextmanager
    def _reading(self, path: str, timeout_s: float | None) -> Iterator[httpx.Response]:
        """An answer that is read as it comes.

        Args:
            timeout_s: between two pieces. None where it may take as long as the queue is.
        """
        timeout = httpx.Timeout(self._timeout_s, read=timeout_s)
        with self._saying(), self._client.stream("GET", path, timeout=timeout) as response:
            if response.status_code >= 300:
                response.read()
            _check(response)
            yield response

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise timed_out(self._address) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise unreachable(self._address, error or type(error).__name__) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise unreachable(self._address, "what answers there is not EmotiveTalk") from error


def _check(response: httpx.Response) -> None:
    """Raise what the service said, if it said no."""
    status = response.status_code
    if status < 300:
        return
    error = response.json()["error"]
    retry_after = response.headers.get("retry-after")
    raise said_by_service(
        error["code"],
        error["message"],
        is_input=400 <= status < 500 and status != 408,
        retry_after_s=float(retry_after) if status == 429 and retry_after else None,
    )


def _video(found: dict[str, Any]) -> Video:
    width, height = map(int, found["size"].split("x"))
    names = ("id", "status", "progress", "model", "created_at", "started_at", "completed_at", "expires_at")
    error = found["error"]
    return Video(
        **{name: found[name] for name in (*names, "num_frames", "frames_done", "seed")},
        width=width,
        height=height,
        error=None if error is None else VideoError(error["code"], error["message"]),
    )


def _safe(video_id: str) -> str:
    """The id, unless it would lead to another path."""
    if not video_id.isascii() or not video_id.replace("_", "").isalnum():
        raise JobNotFoundError(video_id)
    return video_id


def _trust(certificates: Path) -> Any:
    import ssl

    return ssl.create_default_context(cafile=str(certificates))
