"""From what a caller sent to one durable job: checked, normalised, stored, and only then written down."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import ipaddress
import json
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from emotivetalk.actors.errors import JobStoreError, ServingError
from emotivetalk.actors.serving.gateway.settings import CallerLimits, GatewaySettings
from emotivetalk.actors.serving.intake import prepare as intake
from emotivetalk.actors.serving.intake.prepare import Prepared
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.store import Job, JobStore, new_job_id
from emotivetalk.actors.serving.observing import tracing
from emotivetalk.actors.serving.requests import Emotion, ImageEmotion, VideoEmotion, VideoRequest, light_source
from emotivetalk.errors import InputError
from emotivetalk.limits import say_duration
from emotivetalk.timebase import SAMPLE_RATE_HZ

FINGERPRINTED = ("portrait.png", "speech.f32", "emotion.png", "emotion.npy")  # speech.m4a follows from speech.f32
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Caller:
    """Who asks: the name of the token ("" if anonymous), and how much it may ask for."""

    name: str
    limits: CallerLimits


@dataclass(frozen=True)
class Upload:
    """A file on local disk and the name that its client gave it. The front door removes it after `create`."""

    name: str
    path: Path


Source = Upload | str  # a string is an http(s) URL


@dataclass(frozen=True)
class Submission:
    """One video to make, as a front door understood it; not yet checked against the inputs.

    Attributes:
        emotion: None keeps the portrait's own expression; by image or video it needs `emotion_source`.
        emotion_source: the picture or video of an emotion by image or video, None with every other.
        face: counts from 1 at the left, None where there is to be only one.
        model, size, seconds: what the client expects; checked, and nothing else ("256x256"; seconds of the speech, to
            the second).
    """

    portrait: Source
    audio: Source
    emotion: Emotion | None = None
    emotion_source: Source | None = None
    seed: int = 0
    num_steps: int | None = None
    emotion_strength: float = 1.0
    face: int | None = None
    webhook_url: str | None = None
    model: str | None = None
    size: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class ServedModel:
    """What renders: its public name, the checkpoint's id (name and hash) and the side of its square pictures."""

    name: str
    checkpoint: str
    image_size: int


@dataclass(frozen=True)
class Intake:
    """How inputs are checked and fetched (`actors/serving/intake/prepare.py`); tests give others."""

    prepare: Callable[..., Prepared] = intake.prepare
    prepare_portrait: Callable[..., Path] = intake.prepare_portrait
    fetch: Callable[..., Awaitable[Path]] = intake.fetch


class InvalidRequestError(ServingError, InputError):
    """A field of the request is missing, unknown, or not what it has to be."""

    def __init__(self, field: str, message: str, remedy: str = "Correct it; /openapi.json has the fields.") -> None:
        super().__init__("request_invalid", f"{field}: {message}" if field else message, remedy)
        self.field = field


async def in_thread(
    executor: Executor | None, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run a function in a thread and wait for its end in any case.

    If the awaiting task is cancelled, the cancellation is raised after the thread has ended: what the function holds
    (a temporary folder, a transaction) is never pulled from under it. `executor` None is asyncio's own.
    """
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    future = asyncio.get_running_loop().run_in_executor(executor, call)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # looked at, or asyncio would log it
        raise cancelled
    return future.result()


def invalid_request(error: ValidationError) -> InvalidRequestError:
    """The first thing that pydantic found wrong."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return InvalidRequestError(field, first["msg"].removeprefix("Value error, ").rstrip("."))


def invalid_emotion(error: ValueError) -> InputError:
    """A ValueError of the models, "what is wrong. The remedy.", about an emotion that the caller gave."""
    message, _, remedy = str(error).partition(". ")
    return InputError("emotion_invalid", message.rstrip("."), remedy or "Correct the emotion.")


def check_submission(submission: Submission, key: str | None, settings: GatewaySettings, model: ServedModel) -> None:
    """What can be said without looking at the inputs.

    Raises:
        InputError: the emotion does not go with its source, or a field is out of range or not supported here.
    """
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise InputError(
            "idempotency_key_invalid",
            "the Idempotency-Key is not 1 to 255 printable ASCII characters without spaces",
            "Send a UUID, for example.",
        )
    _request_of(submission, num_samples=1)
    _check_emotion(submission)
    if submission.face is not None and submission.face < 1:
        raise InvalidRequestError("face", f"it is {submission.face}; faces count from 1", "Count from the left.")
    if submission.model not in (None, model.name, model.checkpoint):
        raise InputError(
            "model_not_found",
            f"there is no model {submission.model!r} here",
            f"Ask for {model.name!r}, or leave it out.",
        )
    size = f"{model.image_size}x{model.image_size}"
    if submission.size not in (None, size):
        raise InputError(
            "size_unsupported", f"size is {submission.size!r}; videos here are {size}", "Leave it out, or ask for that."
        )
    urls = [source for source in (submission.portrait, submission.audio, submission.emotion_source) if source]
    if not settings.allow_url_inputs and any(isinstance(source, str) for source in urls):
        raise InputError("urls_disabled", "this service takes no inputs by URL", "Upload the files.")
    if submission.webhook_url is not None:
        if settings.secret() is None:
            raise InputError("webhooks_disabled", "this service sends no webhooks", "Poll, or read the events.")
        _check_webhook_url(submission.webhook_url, settings)


def _check_webhook_url(url: str, settings: GatewaySettings) -> None:
    """What can be said of it now; the addresses that its host has are checked at each delivery."""
    try:
        parsed = urlsplit(url)
        fine = parsed.scheme in ("http", "https") and bool(parsed.hostname) and parsed.port != 0
    except ValueError:  # the port is no number, or the brackets of an IPv6 address are wrong
        fine = False
    if not fine or not url.isascii() or not url.isprintable() or " " in url or "@" in parsed.netloc:
        raise InvalidRequestError("webhook_url", "it is not an http(s) URL without credentials", "Correct it.")
    host = parsed.hostname or ""
    if settings.allow_private_urls:
        return
    if host == "localhost" or host.endswith(".localhost"):
        raise InputError("url_private", "webhook_url leads to this machine", "Give one that anybody can reach.")
    with suppress(ValueError):
        intake.check_address(str(ipaddress.ip_address(host)), url)


def _check_emotion(submission: Submission) -> None:
    emotion = submission.emotion
    by_file = isinstance(emotion, ImageEmotion | VideoEmotion)
    if by_file and submission.emotion_source is None:
        raise InputError(
            "emotion_missing", f"the {emotion.kind} of the emotion is missing", f"Send it as emotion_{emotion.kind}."
        )
    if not by_file and submission.emotion_source is not None:
        raise InputError(
            "emotion_conflict",
            "a picture or video of an emotion came with another emotion",
            "Choose one of them.",
        )
    if not by_file:
        try:
            light_source(emotion)
        except ValueError as error:
            raise invalid_emotion(error) from error


def _request_of(submission: Submission, num_samples: int) -> VideoRequest:
    try:
        return VideoRequest(
            num_samples=num_samples,
            emotion=submission.emotion,
            seed=submission.seed,
            num_steps=submission.num_steps,
            emotion_strength=submission.emotion_strength,
        )
    except ValidationError as error:
        raise invalid_request(error) from error


@asynccontextmanager
async def temporary_folder(settings: GatewaySettings, executor: Executor) -> AsyncIterator[Path]:
    """A private folder for uploads, which vanishes with all that is in it."""
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
    """Fetch what came by URL, then check and normalise all of it, in a process of its own.

    Raises:
        InputError: an input that `emotivetalk generate` would refuse, in the same words.
    """
    names: dict[str, str] = {}

    async def local(source: Source | None, kind: str) -> Path | None:
        if source is None:
            return None
        if isinstance(source, Upload):
            names[kind] = source.name
            return source.path
        names[kind] = intake.say_url(source)
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
        face=submission.face,
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


def store_job(
    submission: Submission,
    prepared: Prepared,
    caller: Caller,
    idempotency_key: str | None,
    settings: GatewaySettings,
    model: ServedModel,
    jobs: JobStore,
    artifacts: ArtifactStore,
) -> tuple[Job, bool]:
    """Store the files, then write the one row that makes them a job; without the row the files go again.

    Returns:
        The job, and whether it is new (False: the same request came before under this Idempotency-Key).

    Raises:
        IdempotencyConflictError, QueueFullError, TooManyJobsError, and what the stores raise.
    """
    job_id = new_job_id()
    request = _request_of(submission, prepared.num_samples)
    jobs.reserve(job_id)  # if we die from here on, somebody removes the files
    try:
        for name, path in prepared.files.items():
            artifacts.upload(path, f"jobs/{job_id}/{name}")
        job, is_new = jobs.create(
            job_id,
            caller.name,
            request.model_dump(mode="json"),
            fingerprint(request, prepared, model, submission.webhook_url),
            prepared.num_frames,
            prepared.size,
            prepared.size,
            idempotency_key=idempotency_key,
            idempotency_s=settings.idempotency_s,
            webhook_url=submission.webhook_url,
            max_queued=settings.max_queued,
            max_per_owner=caller.limits.max_concurrent_jobs,
            priority=caller.limits.priority,
            model=model.name,
            traceparent=tracing.traceparent(),
        )
    except JobStoreError:
        raise  # nobody knows whether there is a row. If there is none, the reservation removes the files later
    except BaseException:
        _remove_reserved(job_id, jobs, artifacts)
        raise
    if not is_new:
        _remove_reserved(job_id, jobs, artifacts)
    return job, is_new


def _remove_reserved(job_id: str, jobs: JobStore, artifacts: ArtifactStore) -> None:
    """Remove files that belong to no job. What cannot be removed now stays reserved, and goes when that ends."""
    with suppress(ServingError):
        artifacts.remove(f"jobs/{job_id}")
        jobs.record_removal(job_id)


def fingerprint(request: VideoRequest, prepared: Prepared, model: ServedModel, webhook_url: str | None) -> str:
    """SHA-256, in hex, of all that tells two requests apart: normalised inputs, settings, checkpoint, webhook.

    The inputs are hashed as they will be rendered, so the same picture under another name is the same request.
    """
    hashes = {}
    for name in FINGERPRINTED:
        if name in prepared.files:
            with prepared.files[name].open("rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    whole = {
        "request": request.model_dump(mode="json"),
        "files": hashes,
        "checkpoint": model.checkpoint,
        "webhook_url": webhook_url,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
