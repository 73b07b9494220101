"""The client: order videos, follow them, fetch them."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from emotivetalk.client.videos import (
    EmotionChange,
    LiveOrder,
    Order,
    Source,
    Transport,
    Video,
    VideoPage,
    label_values,
    unreachable,
)
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.files import atomic_write, check_readable, check_writable, writing
from emotivetalk.limits import Limits, say_duration

DEFAULT_ADDRESSES = {"http": "http://127.0.0.1:8000", "grpc": "127.0.0.1:9000"}
TOKEN_ENV = "EMOTIVETALK_TOKEN"
PATIENCE_S = 60.0  # how long `wait` bears that the service does not answer: about a restart
_TRIES = 3
_TRANSIENT = ("service_unreachable", "service_timeout")
_KEYS = ({"time_s", "emotion"}, {"time_s", "emotion", "intensity"}, {"time_s", "text"})

File: TypeAlias = str | os.PathLike[str]  # a string that begins with http:// or https:// is fetched by the service
Result = TypeVar("Result")


class Client:
    """A connection to the service. The same results over both protocols::

        with Client("http://127.0.0.1:8000", token="...") as client:
            video = client.create("portrait.png", "hello.wav", emotion="happy:0.8")
            client.wait(video.id)
            client.download(video.id, "out.mp4")

    Every method raises EmotiveTalkError: with the service's own code, or with "service_unreachable" or
    "service_timeout"; InputError where the caller's request is at fault; OverloadError, which says `retry_after_s`,
    where the service has enough to do.

    Args:
        address: "http://host:port" or "https://..." for HTTP; "host:port", or "https://host:port" for TLS, for gRPC.
        token: the environment's EMOTIVETALK_TOKEN if None.
        timeout_s: for the answer to one call; uploads and streams have longer ones.
        certificates: PEM file of the authorities to trust; the system's if None.
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
        # Imported here: either works where the other's packages are not installed.
        if protocol == "http":
            from emotivetalk.client.over_http import HttpTransport as Chosen
        else:
            from emotivetalk.client.over_grpc import GrpcTransport as Chosen
        self._transport: Transport = Chosen(address, token, timeout_s, certificates)
        self._address = address

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    # ---------------------------------------------------------------------------------------------------------- jobs

    def create(
        self,
        portrait: File,
        audio: File,
        *,
        emotion: str | None = None,
        emotion_text: str | None = None,
        emotion_image: File | None = None,
        emotion_video: File | None = None,
        emotion_track: File | Sequence[Mapping[str, Any]] | None = None,
        emotion_from_speech: bool = False,
        seed: int = 0,
        num_steps: int | None = None,
        emotion_strength: float = 1.0,
        face: int | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Video:
        """Order a video; the service has stored it when this returns.

        Args:
            portrait: a picture; a file, or a URL that the service fetches.
            audio: the speech, likewise.
            emotion: a name such as "happy", or with an intensity of 0 to 1, "happy:0.8". At most one of the emotion
                arguments; without one the portrait keeps its own expression.
            emotion_text: a description in English.
            emotion_image: a picture with the expression.
            emotion_video: a video with the expressions.
            emotion_track: keys along time, `[{"time_s": 0, "emotion": "happy"}, {"time_s": 2, "text": "Calm down"}]`, or
                a JSON file with them.
            emotion_from_speech: as the speech sounds.
            seed: same seed and inputs, same video.
            num_steps: 1 to 50; the checkpoint's own if None.
            emotion_strength: 0 to 4.
            face: which one of the portrait, from 1 at the left; needed if there are several.
            webhook_url: is told when the video has ended.
            idempotency_key: the same key and request give the same video for a day; a fresh one if None, so that a
                request whose answer got lost is sent again safely.
        """
        image, video = _source(emotion_image, "image"), _source(emotion_video, "video")
        given = {
            "emotion": None if emotion is None else label_values(emotion),
            "emotion_text": None if emotion_text is None else {"kind": "text", "text": emotion_text},
            "emotion_image": None if image is None else {"kind": "image"},
            "emotion_video": None if video is None else {"kind": "video"},
            "emotion_track": None if emotion_track is None else {"kind": "track", "keys": _track(emotion_track)},
            "emotion_from_speech": {"kind": "speech"} if emotion_from_speech else None,
        }
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise InputError(
                "emotion_conflict", f"{' and '.join(names)} cannot be given together", "Choose one of them."
            )
        picture, speech = _source(portrait, "image"), _source(audio, "audio")
        assert picture is not None and speech is not None
        order = Order(
            portrait=picture,
            audio=speech,
            emotion=given[names[0]] if names else None,
            shown=image if image is not None else video,
            seed=seed,
            num_steps=num_steps,
            emotion_strength=emotion_strength,
            face=face,
            webhook_url=webhook_url,
            idempotency_key=idempotency_key or str(uuid.uuid4()),
        )
        return _again(lambda: self._transport.create(order))

    def get(self, video_id: str) -> Video:
        """How a video stands."""
        return _again(lambda: self._transport.get(video_id))

    def list(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        status: str | None = None,
    ) -> VideoPage:
        """Some of your videos, by time of creation.

        Args:
            limit: 1 to 100.
            after: the id of the last one of the page before.
            status: only those with it.
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
        return _again(lambda: self._transport.list(limit, after, order, status))

    def cancel(self, video_id: str) -> Video:
        """Cancel a video; one that has ended stays as it is."""
        return _again(lambda: self._transport.cancel(video_id))

    def delete(self, video_id: str) -> None:
        """Cancel a video and remove it with its files."""
        self._transport.delete(video_id)

    # ---------------------------------------------------------------------------------------------------- following it

    def watch(self, video_id: str) -> Iterator[Video]:
        """How a video stands, now and whenever it changes; ends after a final status.

        Raises:
            EmotiveTalkError: code "service_unreachable" if the connection breaks before that.
        """
        video = None
        for video in self._transport.watch(video_id):
            yield video
        if video is None or not video.is_final:
            raise unreachable(self._address, "it ended the connection")

    def wait(self, video_id: str, *, timeout_s: float | None = None, progress: bool = True) -> Video:
        """Wait until a video has ended, in whichever way. A restart of the service is sat out.

        Args:
            timeout_s: None waits as long as it takes.
            progress: show a bar on stderr, if that is a terminal.

        Raises:
            EmotiveTalkError: code "wait_timeout", the video goes on; or the service did not answer for a minute.
        """
        begun = heard = time.monotonic()
        with _Bar(progress) as bar:
            while True:
                try:
                    # Looked at often enough for the timeout; a stream of changes would be silent while the job waits.
                    for video in self._changes(video_id, timeout_s):
                        heard = time.monotonic()
                        bar.show(video)
                        if video.is_final:
                            return video
                        if timeout_s is not None and heard - begun > timeout_s:
                            raise EmotiveTalkError(
                                "wait_timeout",
                                f"video {video_id} has not ended after {say_duration(timeout_s)}",
                                "It goes on; wait for it again.",
                            )
                except EmotiveTalkError as error:
                    if error.code not in _TRANSIENT or time.monotonic() - heard > PATIENCE_S:
                        raise
                    time.sleep(1.0)

    def _changes(self, video_id: str, timeout_s: float | None) -> Iterator[Video]:
        if timeout_s is None:
            yield from self.watch(video_id)
            return
        while True:
            yield self.get(video_id)
            time.sleep(min(0.5, timeout_s / 10))

    # ---------------------------------------------------------------------------------------------------- fetching it

    def stream(self, video_id: str) -> Iterator[bytes]:
        """The video (fragmented MP4) while it is being made, piece by piece.

        Raises:
            EmotiveTalkError: codes "video_failed", "video_cancelled": the rest will not come.
        """
        return self._transport.stream(video_id)

    def download(self, video_id: str, path: str | os.PathLike[str]) -> Path:
        """Write a finished video to a file, whole or not at all. A file that is there is replaced.

        Raises:
            InputError: code "video_not_ready"; or the file cannot be written.
            OutputError: the disk filled up.
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

    def live(
        self,
        portrait: str | os.PathLike[str],
        audio: Iterable[bytes | EmotionChange],
        *,
        emotion: str | None = None,
        emotion_text: str | None = None,
        seed: int = 0,
        num_steps: int | None = None,
        emotion_strength: float = 1.0,
        face: int | None = None,
    ) -> Iterator[bytes]:
        """A video of speech that is still being spoken; over gRPC only. Nothing of it is kept by the service.

        Gives the head of the file (fragmented MP4), and then each fragment as soon as it is rendered; together they are
        the file. To stop early, close the iterator.

        Args:
            portrait: a picture's file.
            audio: the speech as it comes, 16 kHz mono in signed 16-bit little-endian samples, in pieces of any length,
                with an `EmotionChange` wherever the emotion changes. It is read in a thread of its own, no faster than
                the service takes it.
            emotion, emotion_text: at the begin; at most one of them.
            seed, num_steps, emotion_strength, face: as in `create`.

        Raises:
            InputError: code "live_needs_grpc" over HTTP; and what is wrong with an input.
            OverloadError: all places are taken.
        """
        picture = Path(portrait)
        check_readable(picture, "image", Limits().image_bytes)
        values = {"seed": seed, "num_steps": num_steps, "emotion_strength": emotion_strength, "face": face}
        settings = {name: value for name, value in values.items() if value is not None}
        at_first = EmotionChange(emotion, emotion_text).values()
        return self._transport.live(LiveOrder(picture, audio, at_first, settings))


class _Bar:
    """A progress bar over frames; silent where stderr is no terminal."""

    def __init__(self, wanted: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = not (wanted and console.is_terminal)
        self._progress = Progress(*columns, console=console, disable=hidden, transient=True)
        self._task = self._progress.add_task("queued", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, video: Video) -> None:
        """Say how the video stands."""
        words = video.status.replace("_", " ")
        self._progress.update(self._task, description=words, completed=video.frames_done, total=video.num_frames)


def _again(call: Callable[[], Result]) -> Result:
    """Make a call that can be made twice, once more if the service could not be reached (it restarts, perhaps)."""
    for number in range(1, _TRIES + 1):
        try:
            return call()
        except EmotiveTalkError as error:
            if error.code != "service_unreachable" or number == _TRIES:
                raise
            time.sleep(0.5 * number)
    raise AssertionError("the loop ends by itself")


def _source(given: File | None, kind: str) -> Source | None:
    """A URL, or a file that can be read.

    Raises:
        InputError: it cannot, in the words of `emotivetalk generate`.
    """
    if given is None:
        return None
    if isinstance(given, str) and given.lower().startswith(("http://", "https://")):
        return given
    path = Path(given)
    limits = Limits()
    check_readable(path, kind, limits.image_bytes if kind == "image" else limits.media_bytes)
    return path


def _track(given: File | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keys: Any = given
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        check_readable(path, "track", 1_000_000)
        try:
            keys = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # bad UTF-8 is one too
            raise InputError("emotion_invalid", f"{path} is not JSON ({error})", "Write a list of keys.") from error
    if not isinstance(keys, Sequence):
        raise InputError("emotion_invalid", "the emotion track is not a list of keys", "Write a list of keys.")
    for number, key in enumerate(keys, start=1):
        if not isinstance(key, Mapping) or set(key) not in _KEYS:
            raise InputError(
                "emotion_invalid",
                f"emotion track, key {number}: the fields are not right",
                "Give time_s with emotion (and intensity), or with text.",
            )
    return [dict(key) for key in keys]
