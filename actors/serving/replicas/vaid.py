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

ROLES_KEPT = 16

log = logging.getLogger(__name__)
Call = TypeVar("Call", MotionCall, LiveMotionCall)


class VAIDWorker:
    """The work, without Ray: a block is a function of its call and the block before it."""

    def __init__(self, motion_generator: MotionGenerator, artifacts: ArtifactStore) -> None:
        self._motion_generator, self._artifacts = motion_generator, artifacts
        self._role = lru_cache(maxsize=ROLES_KEPT)(self._job_role)
        self._live_role = lru_cache(maxsize=ROLES_KEPT)(self._cued_role)

    def generate_motion(self, call: MotionCall, before: BlockData | None) -> BlockData:
        """Make the block, or read it if a run before this one made it.

        Raises:
            MeaninglessTextError: the text asks for no emotion. SentenceEncoderError: no encoder is installed.
        """
        files = JobFiles(self._artifacts, call.job_id)
        kept = files.read_block(call.block)
        if kept is not None:
            return kept
        request = call.request
        role = self._role(call.job_id, request)
        block = self._motion_generator.generate_motion(
            role,
            files.speech(request.num_samples),
            call.block,
            None if before is None else as_block(before),
            seed=request.seed,
            emotion_strength=request.emotion_strength,
        )
        made = _as_data(block, role, block.frames.start)
        files.write_block(call.block, made)
        return made

    def generate_motion_live(self, call: LiveMotionCall, before: BlockData | None) -> BlockData:
        """Make the block from the speech that came along; its frames count from the clip's begin.

        Raises:
            MeaninglessTextError, SentenceEncoderError: as `generate_motion`.
        """
        role = self._live_role(call.portrait, call.cues, call.lead)
        block = self._motion_generator.generate_motion(
            role,
            SpokenSpeech(call.speech, call.first_sample, call.num_frames * SAMPLES_PER_FRAME),
            call.block,
            None if before is None else as_block(before),
            seed=call.seed,
            emotion_strength=call.emotion_strength,
            long_video=call.long_video,
        )
        return _as_data(block, role, block.frames.start - call.lead)

    def _job_role(self, job_id: str, request: VideoRequest) -> MotionConditions:
        files = JobFiles(self._artifacts, job_id)
        return self._motion_generator.prepare(files.portrait(), files.emotion(request))

    def _cued_role(self, portrait: LivePortrait, cues: tuple[LiveCue, ...], lead: int) -> MotionConditions:
        keys = []
        for cue in cues:
            source = emotion_source(cue.emotion)
            assert isinstance(source, EmotionLabel | EmotionText | None)
            keys.append(EmotionKey((cue.frame + lead) / FRAME_RATE_HZ, source))
        return self._motion_generator.prepare(live_portrait(portrait), EmotionTrack(tuple(keys)))


def _as_data(block: MotionBlock, role: MotionConditions, start: int) -> BlockData:
    arrays = (block.lip, block.expression, role.expression_reference)
    return BlockData(start, *(array.cpu().numpy() for array in arrays))


def as_block(data: BlockData) -> MotionBlock:
    """A block's arrays as the networks take them."""
    lip, expression = (torch.from_numpy(array.copy()) for array in (data.lip, data.expression))
    return MotionBlock(range(data.start, data.start + len(lip)), lip, expression)


class VAIDReplica:
    """The deployment: `generate_motion` yields the block, which stays in the object store, and then its receipt."""

    def __init__(self, checkpoint: str, artifacts: str, device: str = "cpu", threads: int = 1) -> None:
        start_replica("VAID")
        self._threads = ComputeThreads(threads)
        pipeline = load_pipeline(
            Path(checkpoint),
            device,
            parts=("audio_encoder", "expression_encoder", "emotion_mapping", "vaid"),
        )
        self._worker = VAIDWorker(pipeline.motion_generator, ArtifactStore(artifacts))

    async def generate_motion(self, call: MotionCall, *before: BlockData) -> AsyncGenerator[BlockData | Receipt, None]:
        """Block `call.block`; the block before it goes along but for the first."""
        block, receipt = await self._timed(self._worker.generate_motion, call, call.job_id, before, logging.INFO)
        yield block
        yield receipt

    async def generate_motion_live(
        self, call: LiveMotionCall, *before: BlockData
    ) -> AsyncGenerator[BlockData | Receipt, None]:
        """The same of a clip that is being spoken."""
        block, receipt = await self._timed(self._worker.generate_motion_live, call, call.live_id, before, logging.DEBUG)
        yield block
        yield receipt

    async def _timed(
        self,
        work: Callable[[Call, BlockData | None], BlockData],
        call: Call,
        video_id: str,
        before: tuple[BlockData, ...],
        level: int,
    ) -> tuple[BlockData, Receipt]:
        """The block, made in a thread, traced, and logged at this level."""
        start = time.perf_counter()
        logs.about(video_id)
        with tracing.span("VAID", call.trace, kind=tracing.SpanKind.SERVER, video_id=video_id, block=call.block):
            block = await self._threads.run(work, call, before[0] if before else None)
        seconds = time.perf_counter() - start
        log.log(level, "block %d is made: %.2f s for %d frames", call.block, seconds, len(block.lip))
        return block, Receipt(worker_name(), seconds)

    async def check_health(self) -> None:
        """Raises if computing has not come to an end for long."""
        self._threads.check()
