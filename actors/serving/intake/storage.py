"""A prepared submission becomes a durable job: its files are stored, then its row is written."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

from emotivetalk.actors.errors import JobStoreError, ServingError
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.intake.decoding import Prepared
from emotivetalk.actors.serving.intake.submission import Caller, ServedModel, Submission
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.files import JobFiles
from emotivetalk.actors.serving.jobs.store import Job, JobStore, NewJob, new_job_id
from emotivetalk.actors.serving.observing import tracing
from emotivetalk.request import SamplingSettings, VideoRequest

REMIXED = ("portrait.png", "speech.f32", "speech.m4a")
FINGERPRINTED = ("portrait.png", "speech.f32", "emotion.png", "emotion.npy")  # speech.m4a follows from speech.f32


def store_job(
    submission: Submission,
    prepared: Prepared,
    caller: Caller,
    idempotency_key: str | None,
    settings: GatewaySettings,
    model: ServedModel,
    jobs: JobStore,
    artifacts: ArtifactStore,
    batch_id: str | None = None,
) -> tuple[Job, bool]:
    """Store the files, then write the one row that makes them a job. Without the row, the files are removed again.

    Args:
        batch_id: the batch that the video is a row of, which exempts it from the limits of single videos.

    Returns:
        The job, and True if it is new (False: the same request came before under this Idempotency-Key).

    Raises:
        IdempotencyConflictError, QueueFullError, TooManyJobsError, and the errors of the stores.
    """
    sampling = SamplingSettings.of(submission.settings)
    request = VideoRequest(num_samples=prepared.num_samples, emotion=submission.emotion, **dict(sampling))
    job = NewJob(
        job_id=new_job_id(),
        owner=caller.name,
        request=request.model_dump(mode="json"),
        fingerprint=fingerprint(request, prepared, model, submission.webhook_url),
        num_frames=prepared.num_frames,
        width=prepared.size,
        height=prepared.size,
        priority=caller.limits.priority,
        webhook_url=submission.webhook_url,
        model=model.name,
        traceparent=tracing.traceparent(),
        batch_id=batch_id,
    )
    jobs.reserve(job.job_id)  # if this process dies from here on, a sweep removes the files
    try:
        for name, path in prepared.files.items():
            artifacts.upload(path, JobFiles(artifacts, job.job_id).input(name))
        stored, is_new = jobs.create(
            job,
            idempotency_key=idempotency_key,
            idempotency_s=settings.idempotency_s,
            max_queued=settings.max_queued,
            max_per_owner=caller.limits.max_concurrent_jobs,
        )
    except JobStoreError:
        raise  # it is unknown whether the row exists; if not, the reservation removes the files later
    except BaseException:
        _remove_reserved(job.job_id, jobs, artifacts)
        raise
    if not is_new:
        _remove_reserved(job.job_id, jobs, artifacts)
    return stored, is_new


def store_remix(
    source: Job,
    request: VideoRequest,
    caller: Caller,
    settings: GatewaySettings,
    model: ServedModel,
    jobs: JobStore,
    artifacts: ArtifactStore,
) -> Job:
    """Write a job with the portrait and speech of another one, which are copied and not prepared again.

    Raises:
        ArtifactNotFoundError: the files of the source are gone.
        QueueFullError, TooManyJobsError, and the errors of the stores.
    """
    described = {
        "remix": source.fingerprint,
        "request": request.model_dump(mode="json"),
        "checkpoint": model.checkpoint,
    }
    job = NewJob(
        job_id=new_job_id(),
        owner=caller.name,
        request=request.model_dump(mode="json"),
        fingerprint=hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest(),
        num_frames=source.num_frames,
        width=source.width,
        height=source.height,
        priority=caller.limits.priority,
        model=model.name,
        traceparent=tracing.traceparent(),
        remixed_from=source.job_id,
    )
    jobs.reserve(job.job_id)
    try:
        for name in REMIXED:
            with artifacts.local(JobFiles(artifacts, source.job_id).input(name)) as path:
                artifacts.upload(path, JobFiles(artifacts, job.job_id).input(name))
        return jobs.create(job, max_queued=settings.max_queued, max_per_owner=caller.limits.max_concurrent_jobs)[0]
    except JobStoreError:
        raise
    except BaseException:
        _remove_reserved(job.job_id, jobs, artifacts)
        raise


def fingerprint(request: VideoRequest, prepared: Prepared, model: ServedModel, webhook_url: str | None) -> str:
    """Return the SHA-256, in hex, of everything that distinguishes two requests.

    That is the normalised inputs, the settings, the checkpoint and the webhook. Inputs are hashed as they are rendered,
    so the same picture under another name is the same request.
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


def _remove_reserved(job_id: str, jobs: JobStore, artifacts: ArtifactStore) -> None:
    """Remove the files of no job. Files that cannot be removed now stay reserved and go when the reservation ends."""
    with suppress(ServingError):
        artifacts.remove(JobFiles(artifacts, job_id).folder)
        jobs.record_removal(job_id)
