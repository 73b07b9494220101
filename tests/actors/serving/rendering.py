"""The director and real replicas without Ray. Each call is a task with its own context, as if in another process."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from emotivetalk.actors.serving.config import DirectorSettings
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.files import JobFiles
from emotivetalk.actors.serving.jobs.store import Job, JobStore, new_job_id
from emotivetalk.actors.serving.observing import tracing
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.actors.serving.rendering.director import Director
from emotivetalk.actors.serving.rendering.plans import CheckpointPlans
from emotivetalk.actors.serving.rendering.replica_calls import CallResult
from emotivetalk.actors.serving.replicas.decoder import DecoderReplica
from emotivetalk.actors.serving.replicas.ethd import ETHDReplica
from emotivetalk.actors.serving.replicas.messages import FinishCall, FinishedSegment, MotionCall, RenderCall
from emotivetalk.actors.serving.replicas.vaid import VAIDReplica
from emotivetalk.media.fragments import encode_audio
from emotivetalk.media.image import save_image
from emotivetalk.request import LabelEmotion, VideoRequest
from tests.actors.serving.jobs_for_tests import new_job
from tests.models import debug

NUM_FRAMES = 40
SETTINGS = DirectorSettings(poll_s=0.01, renew_s=0.05, chunks_per_call=1)


async def _in_new_context(work: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.create_task(work, context=contextvars.Context())


async def _collect(results: AsyncGenerator[Any, None]) -> CallResult:
    async def collect() -> list[Any]:
        return [result async for result in results]

    result, receipt = await _in_new_context(collect())
    return CallResult(result, receipt)


class Replicas:
    """The replicas of all deployments. `before` runs before each call and may raise."""

    def __init__(self, checkpoint: Path, artifacts: str) -> None:
        self.vaid = VAIDReplica(str(checkpoint), artifacts)
        self.ethd = ETHDReplica(str(checkpoint), artifacts)
        self.decoder = DecoderReplica(str(checkpoint), artifacts, "debug@0", "test 1")
        self.before: Callable[[Any], None] = lambda call: None

    async def generate_motion(self, call: MotionCall, references: Sequence[Any]) -> CallResult:
        self.before(call)
        return await _collect(self.vaid.generate_motion(call, *references))

    async def render(self, call: RenderCall, references: Sequence[Any]) -> CallResult:
        self.before(call)
        return await _collect(self.ethd.render(call, *references))

    async def finish(self, call: FinishCall, references: Sequence[Any]) -> FinishedSegment:
        self.before(call)
        return await _in_new_context(self.decoder.finish(call, *references))

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        return await _in_new_context(self.decoder.assemble(job_id, fragments))


class RenderingService:
    """A checkpoint, stores, replicas and a director, in one process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checkpoint, self.folder = folder / "checkpoint", folder
        pipeline = debug.pipeline()
        pipeline.save_pretrained(self.checkpoint)
        for part in ("vaid", "ethd", "decoder"):
            # Tests set up logs and spans themselves. load_pipeline is replaced since jaxtyping's check refuses a partial pipeline.
            monkeypatch.setattr(f"emotivetalk.actors.serving.replicas.{part}.start_replica", lambda name: None)
            monkeypatch.setattr(f"emotivetalk.actors.serving.replicas.{part}.load_pipeline", lambda *_, **__: pipeline)
        self.artifacts = ArtifactStore(str(folder / "artifacts"))
        self.jobs = JobStore(f"sqlite:///{folder / 'jobs.db'}")
        self.replicas = Replicas(self.checkpoint, str(folder / "artifacts"))

    def add(self, traceparent: str | None = None) -> Job:
        """Create a queued job of a few segments."""
        job_id, random = new_job_id(), np.random.default_rng(5)
        speech = (0.1 * random.standard_normal(NUM_FRAMES * 640)).astype(np.float32)
        side, files = debug.IMAGE_SIZE, JobFiles(self.artifacts, job_id)
        save_image(self.folder / "portrait.png", random.integers(0, 255, (side, side, 3), dtype=np.uint8))
        encode_audio(speech, self.folder / "speech.m4a")
        self.artifacts.write(f"{files.folder}/speech.f32", speech.tobytes())
        for name in ("portrait.png", "speech.m4a"):
            self.artifacts.write(f"{files.folder}/{name}", (self.folder / name).read_bytes())
            (self.folder / name).unlink()
        request = VideoRequest(num_samples=len(speech), emotion=LabelEmotion(emotion="happy"), num_steps=2)
        values = request.model_dump(mode="json")
        job = new_job(job_id=job_id, request=values, num_frames=NUM_FRAMES, width=side, height=side)
        return self.jobs.create(replace(job, traceparent=traceparent))[0]

    def render(self, job: Job, meters: Meters | None = None, until: Callable[[Job], bool] | None = None) -> Job:
        """Run a director until the job has ended or `until(job)` is true."""

        async def work() -> None:
            plans = CheckpointPlans(self.checkpoint)
            director = Director(self.jobs, self.replicas, plans, SETTINGS, "test", meters)
            running = asyncio.create_task(director.run())
            async with asyncio.timeout(120):
                while not (now := self.jobs.get(job.job_id)).status.is_terminal and not (until and until(now)):
                    await asyncio.sleep(0.005)
                while director.num_running and until is None:
                    await asyncio.sleep(0.005)
            director.stop()
            await running

        asyncio.run(work())
        return self.jobs.get(job.job_id)


class Spans:
    """Recorded spans, by name and by parent."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def parent(self, span: ReadableSpan) -> ReadableSpan:
        assert span.parent is not None, f"{span.name} has no parent"
        (found,) = [other for other in self.all if other.context.span_id == span.parent.span_id]
        return found


def record_spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Record all spans of this process until the test ends."""
    spans = Spans()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", spans.provider)  # a process can set it once only
    monkeypatch.setattr(tracing, "_tracer", spans.provider.get_tracer("test"))
    return spans
