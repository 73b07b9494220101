"""The client's HTTP side: `/v1/videos`, `/v1/files` and `/v1/batches`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from emotivetalk.client.batches_over_http import HttpBatches
from emotivetalk.client.videos import (
    CHUNK_BYTES,
    UPLOAD_TIMEOUT_S,
    LiveOrder,
    Order,
    Source,
    Video,
    VideoError,
    VideoPage,
    checked_id,
    is_file_id,
    service_error,
    timed_out,
    unreachable,
)
from emotivetalk.errors import EmotiveTalkError, InputError, JobNotFoundError

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
            verify=True if certificates is None else _trusting(certificates),
            follow_redirects=False,  # the token must not reach another host
        )

    def create(self, order: Order) -> Video:
        settings = order.settings.model_dump(exclude_none=True)
        fields: dict[str, str] = {name: str(value) for name, value in settings.items()}
        if order.webhook_url is not None:
            fields["webhook_url"] = order.webhook_url
        sources: dict[str, Source] = {"portrait": order.portrait, "audio": order.audio}
        if order.emotion is not None and order.emotion_file is not None:
            sources[f"emotion_{order.emotion.kind}"] = order.emotion_file
        elif order.emotion is not None:
            fields["emotion"] = order.emotion.model_dump_json(exclude_none=True)
        with ExitStack() as stack:
            files: list[tuple[str, Any]] = []
            for name, source in sources.items():
                if isinstance(source, Path):
                    files.append((name, (source.name, stack.enter_context(source.open("rb")))))
                elif is_file_id(source):
                    fields[f"{name}[file_id]"] = source
                else:
                    fields[name] = source
            # Without files, a field goes as a part, so that httpx sends a form in any case.
            if not files:
                name, value = fields.popitem()
                files = [(name, (None, value))]
            return _video(
                self.call(
                    "POST",
                    VIDEOS,
                    data=fields,
                    files=files,
                    headers={"idempotency-key": order.idempotency_key},
                    timeout=httpx.Timeout(self._timeout_s, read=UPLOAD_TIMEOUT_S),
                )
            )

    def get(self, video_id: str) -> Video:
        return _video(self.call("GET", f"{VIDEOS}/{checked_id(video_id)}"))

    def list(self, limit: int, after: str | None, order: str, status: str | None) -> VideoPage:
        given = {"limit": limit, "after": after, "order": order, "status": status}
        page = self.call("GET", VIDEOS, params={name: value for name, value in given.items() if value is not None})
        return VideoPage(tuple(map(_video, page["data"])), page["has_more"])

    def watch(self, video_id: str) -> Iterator[Video]:
        with self.reading(f"{VIDEOS}/{checked_id(video_id)}/events", None) as response:
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
            with self.reading(f"{VIDEOS}/{checked_id(video_id)}/stream", None) as response:
                yield from response.iter_bytes(CHUNK_BYTES)
        except EmotiveTalkError as error:
            if error.code == "service_unreachable":
                # The stream of a failed video breaks off; the finished file's address gives the reason.
                with self.reading(f"{VIDEOS}/{checked_id(video_id)}/content", self._timeout_s):
                    raise error
            raise

    def content(self, video_id: str) -> Iterator[bytes]:
        with self.reading(f"{VIDEOS}/{checked_id(video_id)}/content", self._timeout_s) as response:
            yield from response.iter_bytes(CHUNK_BYTES)

    def live(self, order: LiveOrder) -> Iterator[bytes]:
        raise InputError(
            "live_needs_grpc",
            "live video needs a stream in both directions, which HTTP does not have",
            'Connect with Client("127.0.0.1:9000", protocol="grpc").',
        )

    def cancel(self, video_id: str) -> Video:
        return _video(self.call("POST", f"{VIDEOS}/{checked_id(video_id)}/cancel"))

    def delete(self, video_id: str) -> None:
        self.call("DELETE", f"{VIDEOS}/{checked_id(video_id)}")

    @property
    def batches(self) -> HttpBatches:
        return HttpBatches(self.call, self.reading)

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON of an answer, or raise the service's error."""
        with self._translating_errors():
            response = self._client.request(method, path, **options)
            _check(response)
            return response.json()

    @contextmanager
    def reading(self, path: str, timeout_s: float | None) -> Iterator[httpx.Response]:
        """Read an answer as it arrives.

        Args:
            timeout_s: limit on the time between two pieces; None for answers that wait in the queue.
        """
        timeout = httpx.Timeout(self._timeout_s, read=timeout_s)
        with self._translating_errors(), self._client.stream("GET", path, timeout=timeout) as response:
            if response.status_code >= 300:
                response.read()
            _check(response)
            yield response

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise timed_out(self._address) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise unreachable(self._address, error or type(error).__name__) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise unreachable(self._address, "the answer is not EmotiveTalk's") from error


def _check(response: httpx.Response) -> None:
    """Raise the error that the service answered with, if it did."""
    status = response.status_code
    if status < 300:
        return
    error = response.json()["error"]
    retry_after = response.headers.get("retry-after")
    raise service_error(
        error["code"],
        error["message"],
        remedy=error.get("remedy"),
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
        device_s=found["device_seconds"],
    )


def _trusting(certificates: Path) -> Any:
    import ssl

    return ssl.create_default_context(cafile=str(certificates))
