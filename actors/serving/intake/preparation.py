"""The files of a submission, fetched where they come by URL, then checked and normalised in a process of their own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.intake.decoding import Prepared, prepare, prepare_portrait
from emotivetalk.actors.serving.intake.fetch import fetch, say_url
from emotivetalk.actors.serving.intake.submission import Caller, ServedModel, Source, Submission, Upload
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import InputError
from emotivetalk.limits import say_duration
from emotivetalk.request import InputSettings, VideoEmotion
from emotivetalk.timebase import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Intake:
    """The functions that fetch and prepare files; tests replace them."""

    prepare: Callable[..., Prepared] = prepare
    prepare_portrait: Callable[..., Path] = prepare_portrait
    fetch: Callable[..., Awaitable[Path]] = fetch


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
) -> Prepared:
    """Fetch the inputs that are given by URL, then check and normalise all of them.

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
        names[kind] = say_url(source)
        inside = folder / f"url-{kind}"
        inside.mkdir()
        return await tools.fetch(
            source, inside, caller.limits.max_upload_bytes, allow_private=settings.allow_private_urls
        )

    portrait, audio = await local(submission.portrait, "portrait"), await local(submission.audio, "audio")
    assert portrait is not None and audio is not None
    by_video = isinstance(submission.emotion, VideoEmotion)
    emotion = await local(submission.emotion_source, "emotion_video" if by_video else "emotion_image")
    prepared = await in_thread(
        executor,
        tools.prepare,
        portrait,
        audio,
        None if by_video else emotion,
        emotion if by_video else None,
        folder,
        image_size=model.image_size,
        input_settings=InputSettings.of(submission.settings),
        limits=settings.media_limits(caller.name),
        timeout_s=settings.prepare_timeout_s,
        names=names,
    )
    duration_s = prepared.num_samples / SAMPLE_RATE_HZ
    if submission.seconds is not None and abs(submission.seconds - duration_s) > 1:
        raise InputError(
            "seconds_mismatch",
            f"seconds is {submission.seconds:g}, but the speech is {say_duration(duration_s)} long",
            "A video is as long as its speech: leave seconds out, or cut the speech.",
        )
    return prepared
