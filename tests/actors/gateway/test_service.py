"""The service without a transport: fingerprints of requests, and clean-up after failures and cancellations."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emotivetalk.actors.errors import ArtifactStoreError, JobNotFoundError, JobStoreError, UnauthorizedError
from emotivetalk.actors.serving.gateway.errors import ANSWERS, answer_to, public_error, retry_after_s
from emotivetalk.actors.serving.gateway.service import Caller, Intake, ServedModel, Submission, Upload, VideoService
from emotivetalk.actors.serving.gateway.settings import CallerLimits, GatewaySettings, SettingsError
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.request import LabelEmotion, VideoSettings
from tests.actors.fake_backend import FACE, MODEL, SPEECH, fake_prepare

ALICE = Caller("alice", CallerLimits())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[VideoService]:
    (tmp_path / "uploads").mkdir()
    settings = GatewaySettings(upload_folder=tmp_path / "uploads", poll_s=0.01, allow_anonymous=True)
    jobs = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    service = VideoService(jobs, ArtifactStore(f"{tmp_path}/artifacts"), settings, MODEL, Intake(prepare=fake_prepare))
    yield service
    service.close()
    jobs.close()


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    (tmp_path / "portrait").write_bytes(FACE)
    (tmp_path / "audio").write_bytes(SPEECH)
    return Submission(Upload("me.png", tmp_path / "portrait"), Upload("hello.wav", tmp_path / "audio"))


def leftovers(service: VideoService) -> list[Path]:
    folder = Path(service.artifacts.url)
    return [*folder.glob("jobs/*"), *(folder.parent / "uploads").iterdir()]


def test_the_fingerprint_depends_on_everything_that_changes_the_video(
    service: VideoService, submission: Submission, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(FACE + b"!")
    (tmp_path / "same").write_bytes(FACE)
    variants = {
        "a seed": replace(submission, settings=VideoSettings(seed=1)),
        "an emotion": replace(submission, emotion=LabelEmotion(emotion="sad")),
        "another intensity": replace(submission, emotion=LabelEmotion(emotion="sad", intensity=0.5)),
        "a portrait": replace(submission, portrait=Upload("me.png", tmp_path / "other")),
        "steps": replace(submission, settings=VideoSettings(num_steps=2)),
    }

    async def fingerprints() -> tuple[str, str, list[str]]:
        first = (await service.create(ALICE, submission))[0].fingerprint
        renamed = replace(submission, portrait=Upload("you.png", tmp_path / "same"), seconds=3.0, model=MODEL.name)
        same = (await service.create(ALICE, renamed))[0].fingerprint
        return first, same, [(await service.create(ALICE, variant))[0].fingerprint for variant in variants.values()]

    first, same, others = asyncio.run(fingerprints())
    assert first == same and len({first, *others}) == 1 + len(variants)
    service.model = ServedModel(MODEL.name, "test-ffffffff", MODEL.image_size)
    assert asyncio.run(service.create(ALICE, submission))[0].fingerprint != first


@pytest.mark.parametrize("breaking", ["upload", "create"])
def test_a_failed_request_leaves_no_files(
    service: VideoService, submission: Submission, breaking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise ArtifactStoreError("artifacts_no_space", "the disk is full", "Free some.")

    upload = service.artifacts.upload
    if breaking == "create":
        monkeypatch.setattr(service.jobs, "create", fail)
    else:
        monkeypatch.setattr(
            service.artifacts, "upload", lambda path, name: fail() if "speech" in name else upload(path, name)
        )
    with pytest.raises(ArtifactStoreError):
        asyncio.run(service.create(ALICE, submission))
    assert leftovers(service) == [] and service.jobs.pending_removals() == []


def test_files_are_kept_until_the_reservation_expires_if_the_commit_is_uncertain(
    service: VideoService, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the connection breaks during the commit, the database may or may not have the row."""
    create = service.jobs.create

    def create_and_lose_the_answer(*arguments: Any, **settings: Any) -> None:
        create(*arguments, **settings)
        raise JobStoreError("job_store_unavailable", "the connection broke", "Try again.")

    def lose_the_request(*arguments: object, **settings: object) -> None:
        raise JobStoreError("job_store_unavailable", "the connection broke", "Try again.")

    later = [0.0]
    clock = service.jobs._clock
    monkeypatch.setattr(service.jobs, "_clock", lambda: clock() + later[0])
    for fail in (create_and_lose_the_answer, lose_the_request):
        monkeypatch.setattr(service.jobs, "create", fail)
        with pytest.raises(JobStoreError):
            asyncio.run(service.create(ALICE, submission))
    assert len(leftovers(service)) == 2
    later[0] = 4000
    assert asyncio.run(service.sweep()) == 1
    [job] = service.jobs.list("alice").jobs
    assert [path.name for path in leftovers(service)] == [job.job_id]


def run_and_cancel(work: Callable[[], Coroutine[Any, Any, object]], once: threading.Event) -> bool:
    """Cancel the work when the event is set. Returns True if it ended as cancelled."""

    async def run() -> bool:
        task = asyncio.ensure_future(work())
        while not once.is_set():
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.sleep(0.02)
        task.cancel()  # a second cancellation must not interrupt the clean-up
        await asyncio.wait({task})
        return task.cancelled()

    return asyncio.run(run())


def test_cancelling_while_inputs_are_prepared_leaves_nothing(service: VideoService, submission: Submission) -> None:
    begun = threading.Event()

    def slow(*arguments: Any, **settings: Any) -> Any:
        begun.set()
        time.sleep(0.1)
        return fake_prepare(*arguments, **settings)  # fails if the folder has been removed already

    service._tools = Intake(prepare=slow)
    assert run_and_cancel(lambda: service.create(ALICE, submission), begun)
    assert leftovers(service) == [] and service.jobs.list().jobs == []


def test_cancelling_while_the_row_is_written_keeps_the_job(
    service: VideoService, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, create = threading.Event(), service.jobs.create

    def slow(*arguments: Any, **settings: Any) -> Any:
        begun.set()
        time.sleep(0.1)
        return create(*arguments, **settings)

    monkeypatch.setattr(service.jobs, "create", slow)
    assert run_and_cancel(lambda: service.create(ALICE, submission), begun)
    [job] = service.jobs.list().jobs
    assert service.artifacts.read(f"jobs/{job.job_id}/portrait.png") == FACE


def test_in_thread_returns_results_and_raises_errors(service: VideoService) -> None:
    async def run() -> int:
        with pytest.raises(ZeroDivisionError):
            await in_thread(service._io, lambda: 1 // 0)
        return await in_thread(service._io, pow, 2, 5)

    assert asyncio.run(run()) == 32


def test_a_service_without_tokens_does_not_start(service: VideoService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMOTIVETALK_TOKENS", raising=False)
    with pytest.raises(SettingsError, match="no caller could be admitted"):
        VideoService(service.jobs, service.artifacts, GatewaySettings(), MODEL)


def test_sweep_removes_expired_jobs(
    service: VideoService, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        job, _ = await service.create(ALICE, submission)
        await service.cancel(ALICE, job.job_id)
        assert await service.sweep() == 0
        clock = service.jobs._clock
        monkeypatch.setattr(service.jobs, "_clock", lambda: clock() + 8 * 86400)
        assert await service.sweep() == 1 and leftovers(service) == []
        with pytest.raises(JobNotFoundError):
            await service.get(ALICE, job.job_id)

    asyncio.run(run())


def test_every_error_code_has_an_answer() -> None:
    """Messages of internal errors, which may name paths, are not sent to clients."""
    for code, answer in ANSWERS.items():
        assert answer_to(EmotiveTalkError(code, "x", "y")) is answer
        assert 400 <= answer.http < 600 and answer.grpc.isupper()
    assert answer_to(InputError("never_heard_of", "x", "y")).http == 400
    assert answer_to(UnauthorizedError()).grpc == "UNAUTHENTICATED"
    secret = EmotiveTalkError("strange", "at /home/me", "")
    for error in (secret, RuntimeError("at /home/me"), JobStoreError("job_store_unavailable", "at /home/me", "")):
        assert answer_to(error).http >= 500 and "/home" not in str(public_error(error))
    assert (public_error(RuntimeError()).code, public_error(secret).code) == ("internal", "strange")
    assert retry_after_s(secret) is None and retry_after_s(JobStoreError("job_store_unavailable", "", "")) == 1
