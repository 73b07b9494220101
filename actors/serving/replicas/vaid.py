"""V-AID as a deployment: speech and an emotion to latents, block by block (`models/motion_generator.py`)."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch

from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.files import JobFiles, SpokenSpeech, live_portrait
from emotivetalk.actors.serving.observing import logs, tracing
from emotivetalk.actors.serving.replicas.messages import (
    BlockData,
    LiveCue,
    LiveMotionCall,
    LivePortrait,
    MotionCall,
    Receipt,
)
from emotivetalk.actors.serving.replicas.startup import ComputeThreads, start_replica, worker_name
from emotivetalk.models.emotion import (
    EmotionKey,
    EmotionLabel,
    EmotionText,
    EmotionTrack,
    emotion_source,
)
from emotivetalk.models.motion_generator import MotionBlock, MotionConditions, MotionGenerator
from emotivetalk.models.pipeline import load_pipeline
from emotivetalk.request import VideoRequest
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLES_PER_FRAME

MAX_CACHED_CONDITIONS = 16

log = logging.getLogger(__name__)
CallT = TypeVar("CallT", MotionCall, LiveMotionCall)


class VAIDWorker:
    """V-AID's work without Ray. A block is a function of its call and the previous block."""

    def __init__(self, motion_generator: MotionGenerator, artifacts: ArtifactStore) -> None:
        self._motion_generator, self._artifacts = motion_generator, artifacts
        self._job_conditions = lru_cache(maxsize=MAX_CACHED_CONDITIONS)(self._prepare_job)
        self._live_conditions = lru_cache(maxsize=MAX_CACHED_CONDITIONS)(self._prepare_live)

    def generate_motion(self, call: MotionCall, previous: BlockData | None) -> BlockData:
        """Generate a job's block and store it; read it if an earlier run stored it.

        Raises:
            MeaninglessTextError: the text does not describe an emotion.
            SentenceEncoderError: the text encoder is not installed.
        """
        files = JobFiles(self._artifacts, call.job_id)
        stored = files.read_block(call.block)
        if stored is not None:
            return stored
        request = call.request
        conditions = self._job_conditions(call.job_id, request)  # pyright: ignore[reportArgumentType] frozen: it has a hash
        block = self._motion_generator.generate_motion(
            conditions,
            files.speech(request.num_samples),
            call.block,
            None if previous is None else to_block(previous),
            seed=request.seed,
            emotion_strength=request.emotion_strength,
        )
        data = _to_data(block, conditions, block.frames.start)
        files.write_block(call.block, data)
        return data

    def generate_motion_live(self, call: LiveMotionCall, previous: BlockData | None) -> BlockData:
        """Generate a live call's block from the speech in the call. Its frames count from the start of the clip.

        Raises:
            MeaninglessTextError, SentenceEncoderError: as `generate_motion`.
        """
        conditions = self._live_conditions(call.portrait, call.cues, call.lead)
        block = self._motion_generator.generate_motion(
            conditions,
            SpokenSpeech(call.speech, call.first_sample, call.num_frames * SAMPLES_PER_FRAME),
            call.block,
            None if previous is None else to_block(previous),
            seed=call.settings.seed,
            emotion_strength=call.settings.emotion_strength,
            long_video=call.long_video,
        )
        return _to_data(block, conditions, block.frames.start - call.lead)

    def _prepare_job(self, job_id: str, request: VideoRequest) -> MotionConditions:
        files = JobFiles(self._artifacts, job_id)
        return self._motion_generator.prepare(files.portrait(), files.emotion(request))

    def _prepare_live(self, portrait: LivePortrait, cues: tuple[LiveCue, ...], lead: int) -> MotionConditions:
        keys = []
        for cue in cues:
            source = emotion_source(cue.emotion)
            assert isinstance(source, EmotionLabel | EmotionText | None)
            keys.append(EmotionKey((cue.frame + lead) / FRAME_RATE_HZ, source))
        return self._motion_generator.prepare(live_portrait(portrait), EmotionTrack(tuple(keys)))


def _to_data(block: MotionBlock, conditions: MotionConditions, start: int) -> BlockData:
    arrays = (block.lip, block.expression, conditions.expression_reference)
    return BlockData(start, *(array.cpu().numpy() for array in arrays))


def to_block(data: BlockData) -> MotionBlock:
    """Convert a block's arrays to tensors."""
    lip, expression = (torch.from_numpy(array.copy()) for array in (data.lip, data.expression))
    return MotionBlock(range(data.start, data.start + len(lip)), lip, expression)


class VAIDReplica:
    """The deployment. Its calls yield the block, which stays in the object store, and then the receipt."""

    def __init__(self, checkpoint: str, artifacts: str, device: str = "cpu", threads: int = 1) -> None:
        start_replica("VAID")
        self._threads = ComputeThreads(threads)
        pipeline = load_pipeline(
            Path(checkpoint),
            device,
            parts=("audio_encoder", "expression_encoder", "emotion_mapping", "vaid"),
        )
        self._worker = VAIDWorker(pipeline.motion_generator, ArtifactStore(artifacts))

    async def generate_motion(
        self, call: MotionCall, *previous: BlockData
    ) -> AsyncGenerator[BlockData | Receipt, None]:
        """Generate block `call.block`. `previous` is the previous block, absent for the first."""
        block, receipt = await self._timed(self._worker.generate_motion, call, call.job_id, previous, logging.INFO)
        yield block
        yield receipt

    async def generate_motion_live(
        self, call: LiveMotionCall, *previous: BlockData
    ) -> AsyncGenerator[BlockData | Receipt, None]:
        """Generate a block of a live clip."""
        block, receipt = await self._timed(
            self._worker.generate_motion_live, call, call.live_id, previous, logging.DEBUG
        )
        yield block
        yield receipt

    async def _timed(
        self,
        work: Callable[[CallT, BlockData | None], BlockData],
        call: CallT,
        video_id: str,
        previous: tuple[BlockData, ...],
        level: int,
    ) -> tuple[BlockData, Receipt]:
        """Compute the block in a thread; trace it, and log it at this level."""
        start = time.perf_counter()
        logs.about(video_id)
        with tracing.span("VAID", call.trace, kind=tracing.SpanKind.SERVER, video_id=video_id, block=call.block):
            block = await self._threads.run(work, call, previous[0] if previous else None)
        seconds = time.perf_counter() - start
        log.log(level, "block %d finished: %.2f s for %d frames", call.block, seconds, len(block.lip))
        return block, Receipt(worker_name(), seconds)

    async def check_health(self) -> None:
        """Raise ServingError if a computation hangs."""
        self._threads.check()
