"""The files of a submission, fetched where they come by URL, then checked and normalised in a process of their own."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.intake.decoding import Prepared, prepare, prepare_portrait
from emotivetalk.actors.serving.intake.fetch import fetch, say_url
from emotivetalk.actors.serving.intake.submission import Caller, FileReference, ServedModel, Source, Submission, Upload
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import InputError
from emotivetalk.limits import Limits, say_duration
from emotivetalk.request import InputSettings, VideoEmotion
from emotivetalk.timebase import SAMPLE_RATE_HZ

FetchFile = Callable[[str, str, Path], Awaitable[Upload]]
"""(file's id, owner, folder) -> the stored file, copied into the folder. Raises FileNotFoundInStoreError."""


@dataclass(frozen=True)
class Intake:
    """The functions that fetch and prepare files; tests replace them."""

    prepare: Callable[..., Prepared] = prepare
    prepare_portrait: Callable[..., Path] = prepare_portrait
    fetch: Callable[..., Awaitable[Path]] = fetch


class PreparedPortraits:
    """The portraits that were prepared last, by content, so that a face that occurs again is found and framed once.

    Safe for any number of threads.

    Args:
        max_bytes: size of all kept portraits together; the least recently used ones go first.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def key(self, portrait: Path, image_size: int, settings: InputSettings, limits: Limits) -> str:
        """Return a hash of everything that the prepared portrait depends on."""
        with portrait.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        digest.update(repr((image_size, settings.face, limits)).encode())
        return digest.hexdigest()

    def get(self, key: str, folder: Path) -> Path | None:
        """Write the portrait into a folder; None if it is not kept."""
        with self._lock:
            picture = self._pictures.get(key)
            if picture is None:
                return None
            self._pictures.move_to_end(key)
        path = folder / "kept-portrait.png"
        path.write_bytes(picture)
        return path

    def keep(self, key: str, portrait: Path) -> None:
        """Keep a prepared portrait."""
        picture = portrait.read_bytes()
        with self._lock:
            self._num_bytes += len(picture) - len(self._pictures.pop(key, b""))
            self._pictures[key] = picture
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= len(self._pictures.popitem(last=False)[1])


@asynccontextmanager
async def temporary_folder(settings: GatewaySettings, executor: Executor) -> AsyncIterator[Path]:
    """Make a private folder for uploads, and remove it with its content at the end."""
    folder = tempfile.TemporaryDirectory(prefix="emotivetalk-", dir=settings.upload_folder, ignore_cleanup_errors=True)
    try:
        yield Path(folder.name)
    finally:
        await in_thread(executor, folder.cleanup)


async def prepare_inputs(
    submission: Submission,
    caller: Caller,
    folder: Path,
    settings: GatewaySettings,
    model: ServedModel,
    executor: Executor,
    tools: Intake,
    fetch_file: FetchFile,
    portraits: PreparedPortraits,
) -> Prepared:
    """Fetch the inputs that are given by URL or as a stored file, then check and normalise all of them.

    Raises:
        InputError: an input is invalid, in the words of `emotivetalk generate`.
    """
    names: dict[str, str] = {}

    async def local(source: Source | None, kind: str) -> Path | None:
        if source is None:
            return None
        if isinstance(source, Upload):
            names[kind] = source.name
            return source.path
        inside = folder / f"fetched-{kind}"
        inside.mkdir()
        if isinstance(source, FileReference):
            upload = await fetch_file(source.file_id, caller.name, inside)
            names[kind] = upload.name
            return upload.path
        names[kind] = say_url(source)
        return await tools.fetch(
            source, inside, caller.limits.max_upload_bytes, allow_private=settings.allow_private_urls
        )

    portrait, audio = await local(submission.portrait, "portrait"), await local(submission.audio, "audio")
    assert portrait is not None and audio is not None
    by_video = isinstance(submission.emotion, VideoEmotion)
    emotion = await local(submission.emotion_source, "emotion_video" if by_video else "emotion_image")
    input_settings, limits = InputSettings.of(submission.settings), settings.media_limits(caller.name)

    def prepare_all() -> Prepared:
        key = portraits.key(portrait, model.image_size, input_settings, limits)
        kept = portraits.get(key, folder)
        result = tools.prepare(
            portrait,
            audio,
            None if by_video else emotion,
            emotion if by_video else None,
            folder,
            image_size=model.image_size,
            input_settings=input_settings,
            limits=limits,
            timeout_s=settings.prepare_timeout_s,
            names=names,
            prepared_portrait=kept,
        )
        if kept is None:
            portraits.keep(key, result.files["portrait.png"])
        return result

    prepared = await in_thread(executor, prepare_all)
    duration_s = prepared.num_samples / SAMPLE_RATE_HZ
    if submission.seconds is not None and abs(submission.seconds - duration_s) > 1:
        raise InputError(
            "seconds_mismatch",
            f"seconds is {submission.seconds:g}, but the speech is {say_duration(duration_s)} long",
            "A video is as long as its speech: leave seconds out, or cut the speech.",
        )
    return prepared
