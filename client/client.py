"""The client: order videos, follow their progress, fetch them."""

from __future__ import annotations

import inspect
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from emotivetalk.client.batches import Batches
from emotivetalk.client.videos import (
    EmotionChange,
    LiveOrder,
    LivePiece,
    Order,
    Source,
    Transport,
    Video,
    VideoPage,
    is_file_id,
    unreachable,
)
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.files import atomic_write, check_readable, check_writable, writing
from emotivetalk.limits import Limits, say_duration
from emotivetalk.request import (
    EmotionArgument,
    VideoSettings,
    checked,
    choose_emotion,
    emotion_parameters,
    settings_parameters,
    show_parameters,
    split_arguments,
)

DEFAULT_ADDRESSES = {"http": "http://127.0.0.1:8000", "grpc": "127.0.0.1:9000"}
TOKEN_ENV = "EMOTIVETALK_TOKEN"
PATIENCE_S = 60.0  # `wait` tolerates a service that does not answer for so long, about a restart
_ATTEMPTS = 3
_TRANSIENT = ("service_unreachable", "service_timeout")

File: TypeAlias = str | os.PathLike[str]  # a string that begins with http:// or https:// is fetched by the service
Result = TypeVar("Result")


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _emotion_annotation(name: str, argument: EmotionArgument) -> Any:
    if name == "emotion_track":
        return File | Sequence[Mapping[str, Any]] | None
    return bool if argument.type is bool else File | None if argument.type is Path else str | None


class Client:
    """A connection to the service, with the same results over both protocols::

        with Client("http://127.0.0.1:8000", token="...") as client:
            video = client.create("portrait.png", "hello.wav", emotion="happy:0.8")
            client.wait(video.id)
            client.download(video.id, "out.mp4")

    Every method raises EmotiveTalkError, with the service's own code, or with "service_unreachable" or
    "service_timeout": InputError if the request is at fault, OverloadError with `retry_after_s` if the service is
    overloaded.

    Args:
        address: for HTTP "http://host:port" or "https://..."; for gRPC "host:port", or "https://host:port" for TLS.
        token: bearer token; None reads the environment variable EMOTIVETALK_TOKEN.
        timeout_s: limit on the answer to one call; uploads and streams have longer ones.
        certificates: PEM file of the authorities to trust; None trusts the system's.

    Attributes:
        batches: files and batches; see `Batches`.
    """

    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        *,
        protocol: Literal["http", "grpc"] = "http",
        timeout_s: float = 60.0,
        certificates: Path | None = None,
    ) -> None:
        if protocol not in DEFAULT_ADDRESSES:
            raise ValueError(f"protocol is {protocol!r}; it is http or grpc")
        address = address or DEFAULT_ADDRESSES[protocol]
        token = token or os.environ.get(TOKEN_ENV) or None
        # Imported late: each works without the other's packages.
        if protocol == "http":
            from emotivetalk.client.over_http import HttpTransport as Chosen
        else:
            from emotivetalk.client.over_grpc import GrpcTransport as Chosen
        self._transport: Transport = Chosen(address, token, timeout_s, certificates)
        self._address = address
        self.batches = Batches(self._transport.batches)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    # ---------------------------------------------------------------------------------------------------------- jobs

    @show_parameters(
        [
            _parameter("webhook_url", str | None),
            _parameter("idempotency_key", str | None),
            *emotion_parameters(_emotion_annotation),
            *settings_parameters(),
        ]
    )
    def create(self, portrait: File, audio: File, **arguments: Any) -> Video:
        """Order a video. The service has stored the job when this returns.

        Emotion and settings are keyword arguments; `help(Client.create)` lists them with their defaults. At most one
        emotion argument may be given; without one the portrait keeps its own expression.

        Args:
            portrait: a picture of a face: a file, a URL that the service fetches, or the id of a file that it stores
                (`client.batches.upload`).
            audio: the speech, likewise.
            webhook_url: receives a POST when the video has ended.
            idempotency_key: the same key and request give the same video for a day. Without one, the client makes a
                fresh key, so that it can repeat a request whose answer was lost.

        Raises:
            InputError: an argument is invalid or a file cannot be read.
        """
        webhook_url, key = arguments.pop("webhook_url", None), arguments.pop("idempotency_key", None)
        emotion_arguments, values = split_arguments(arguments)
        emotion = choose_emotion(emotion_arguments)
        emotion_file = None
        if emotion is not None and emotion.kind in ("image", "video"):
            emotion_file = _source(emotion_arguments[f"emotion_{emotion.kind}"], emotion.kind)
        order = Order(
            portrait=_source(portrait, "image"),
            audio=_source(audio, "audio"),
            emotion=emotion,
            emotion_file=emotion_file,
            settings=checked(VideoSettings, **values),
            webhook_url=webhook_url,
            idempotency_key=key or str(uuid.uuid4()),
        )
        return self.submit(order)

    def submit(self, order: Order) -> Video:
        """Order a video whose request is checked already. The service has stored the job when this returns."""
        return _repeated(lambda: self._transport.create(order))

    def get(self, video_id: str) -> Video:
        """Return a video's current state."""
        return _repeated(lambda: self._transport.get(video_id))

    def list(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        status: str | None = None,
    ) -> VideoPage:
        """Return a page of your videos, by time of creation.

        Args:
            limit: 1 to 100.
            after: id of the last video of the previous page.
            order: "desc" has the newest first.
            status: return only videos with this status.
        """
        if order not in ("asc", "desc") or status not in (
            None,
            "queued",
            "in_progress",
            "completed",
            "failed",
            "cancelled",
        ):
            raise ValueError(f"there is no order {order!r} or status {status!r}")
        return _repeated(lambda: self._transport.list(limit, after, order, status))

    def cancel(self, video_id: str) -> Video:
        """Cancel a video; one that has ended stays as it is."""
        return _repeated(lambda: self._transport.cancel(video_id))

    def delete(self, video_id: str) -> None:
        """Cancel a video and remove it with its files."""
        self._transport.delete(video_id)

    # ------------------------------------------------------------------------------------------------------ progress

    def watch(self, video_id: str) -> Iterator[Video]:
        """Yield a video's state, now and at each change, until the status is final.

        Raises:
            EmotiveTalkError: code "service_unreachable": the connection broke before that.
        """
        video = None
        for video in self._transport.watch(video_id):
            yield video
        if video is None or not video.is_final:
            raise unreachable(self._address, "it ended the connection")

    def wait(self, video_id: str, *, timeout_s: float | None = None, progress: bool = True) -> Video:
        """Wait until a video has completed, failed or been cancelled. Tolerates a restart of the service.

        Args:
            timeout_s: None waits without a limit.
            progress: show a bar on stderr if that is a terminal and `rich` is installed.

        Raises:
            EmotiveTalkError: code "wait_timeout": the video is still being made; or the service did not answer for a
                minute.
        """
        start = last_answer = time.monotonic()
        with _Bar(progress) as bar:
            while True:
                try:
                    for video in self._changes(video_id, timeout_s):
                        last_answer = time.monotonic()
                        bar.show(video)
                        if video.is_final:
                            return video
                        if timeout_s is not None and last_answer - start > timeout_s:
                            raise EmotiveTalkError(
                                "wait_timeout",
                                f"video {video_id} has not ended after {say_duration(timeout_s)}",
                                "It is still in progress. Call wait again.",
                            )
                except EmotiveTalkError as error:
                    if error.code not in _TRANSIENT or time.monotonic() - last_answer > PATIENCE_S:
                        raise
                    time.sleep(1.0)

    def _changes(self, video_id: str, timeout_s: float | None) -> Iterator[Video]:
        if timeout_s is None:
            yield from self.watch(video_id)
            return
        while True:  # a stream of changes is silent while the job is queued, so the timeout could not be kept
            yield self.get(video_id)
            time.sleep(min(0.5, timeout_s / 10))

    # -------------------------------------------------------------------------------------------------------- content

    def stream(self, video_id: str) -> Iterator[bytes]:
        """Yield the video (fragmented MP4) piece by piece while it is being made.

        Raises:
            EmotiveTalkError: codes "video_failed" and "video_cancelled": the rest will not come.
        """
        return self._transport.stream(video_id)

    def download(self, video_id: str, path: str | os.PathLike[str]) -> Path:
        """Write a finished video to a file atomically, replacing an existing one.

        Raises:
            InputError: code "video_not_ready"; or the file cannot be written.
            OutputError: the disk is full.
        """
        target = Path(path)
        check_writable(target)
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            for piece in self._transport.content(video_id):
                with writing(target):
                    file.write(piece)
            with writing(target):
                file.flush()
        return target

    # ------------------------------------------------------------------------------------------------------------ live

    @show_parameters(
        [_parameter("emotion", str | None), _parameter("emotion_text", str | None), *settings_parameters()]
    )
    def live(
        self, portrait: str | os.PathLike[str], audio: Iterable[bytes | EmotionChange], **arguments: Any
    ) -> Iterator[LivePiece]:
        """Render speech while it is being spoken, over gRPC only. The service stores nothing.

        Yields the head of the file (fragmented MP4), then each fragment as soon as it is rendered; together they are
        the file. The pieces are bytes that also tell how late the service is (`LivePiece.lag_s`). To stop early, close
        the iterator.

        Args:
            portrait: a picture file.
            audio: the speech as 16 kHz mono signed 16-bit little-endian samples, in pieces of any length, with an
                `EmotionChange` wherever the emotion changes. A thread of its own reads it, no faster than the service
                takes it.
            emotion, emotion_text: the emotion at the start; at most one of them.

        Raises:
            InputError: code "live_needs_grpc" over HTTP; or an input is invalid.
            OverloadError: the service has no free place, or lags too far behind (code "live_too_slow").
        """
        at_start = EmotionChange(arguments.pop("emotion", None), arguments.pop("emotion_text", None)).chosen()
        _, values = split_arguments(arguments)
        picture = Path(portrait)
        check_readable(picture, "image", Limits().image_bytes)
        return self._transport.live(LiveOrder(picture, audio, at_start, checked(VideoSettings, **values)))


class _Bar:
    """A progress bar of frames; silent if stderr is no terminal or `rich` is not installed."""

    def __init__(self, wanted: bool) -> None:
        self._progress = _progress() if wanted else None
        if self._progress is not None:
            self._task = self._progress.add_task("queued", total=None)

    def __enter__(self) -> _Bar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, video: Video) -> None:
        """Show the video's state."""
        if self._progress is not None:
            status = video.status.replace("_", " ")
            self._progress.update(self._task, description=status, completed=video.frames_done, total=video.num_frames)


def _progress() -> Any:
    """Return rich's progress bar; None if stderr is no terminal or rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:  # the client installed alone does without
        return None
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True) if console.is_terminal else None


def _repeated(call: Callable[[], Result]) -> Result:
    """Make an idempotent call; repeat it if the service could not be reached, for example because it restarts."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return call()
        except EmotiveTalkError as error:
            if error.code != "service_unreachable" or attempt == _ATTEMPTS:
                raise
            time.sleep(0.5 * attempt)
    raise AssertionError("the last attempt returns or raises")


def _source(file: File, kind: str) -> Source:
    """Return a URL, the id of a stored file, or a path that was checked.

    Raises:
        InputError: the file cannot be read.
    """
    if isinstance(file, str) and (file.lower().startswith(("http://", "https://")) or is_file_id(file)):
        return file
    path = Path(file)
    limits = Limits()
    check_readable(path, kind, limits.image_bytes if kind == "image" else limits.media_bytes)
    return path
