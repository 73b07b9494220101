"""V-AID as a deployment: speech and an emotion to latents, block by block (`models/performer.py`)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from functools import lru_cache
from pathlib import Path

import torch

from actors.errors import ServingError
from actors.serving.artifacts import ArtifactStore
from actors.serving.job_files import JobFiles
from actors.serving.messages import BlockData, PerformCall, Receipt
from actors.serving.replica import ComputeThread, worker_name
from actors.serving.requests import VideoRequest
from media.errors import InputError
from models.emotion import MeaninglessTextError
from models.performer import PerformanceBlock, Performer, Role
from models.pipeline import load_pipeline
from models.sentence_encoder import SentenceEncoderError

ROLES_KEPT = 16


class VAIDWorker:
    """The work, without Ray: a block is a function of its call and the block before it."""

    def __init__(self, performer: Performer, artifacts: ArtifactStore) -> None:
        self._performer, self._artifacts = performer, artifacts
        self._role = lru_cache(maxsize=ROLES_KEPT)(self._cast)

    def perform(self, call: PerformCall, before: BlockData | None) -> BlockData:
        """Make the block, or read it if a run before this one made it.

        Raises:
            InputError: the text asks for no emotion; ServingError: there is no encoder for texts here.
        """
        files = JobFiles(self._artifacts, call.job_id)
        kept = files.read_block(call.block)
        if kept is not None:
            return kept
        request = call.request
        role = self._role(call.job_id, request.model_dump_json())
        block = self._performer.perform(
            role,
            files.speech(request.num_samples),
            call.block,
            None if before is None else as_block(before),
            seed=request.seed,
            emotion_strength=request.emotion_strength,
        )
        made = BlockData(
            block.frames.start,
            block.lip.cpu().numpy(),
            block.expression.cpu().numpy(),
            role.expression_reference.cpu().numpy(),
        )
        files.write_block(call.block, made)
        return made

    def _cast(self, job_id: str, request: str) -> Role:
        files = JobFiles(self._artifacts, job_id)
        try:
            return self._performer.cast(files.portrait(), files.emotion(VideoRequest.model_validate_json(request)))
        except MeaninglessTextError as error:
            message, _, remedy = str(error).partition(". ")
            raise InputError("emotion_invalid", message, remedy) from error
        except SentenceEncoderError as error:
            message, _, remedy = str(error).partition(". ")
            raise ServingError("text_encoder_missing", message, remedy) from error


def as_block(data: BlockData) -> PerformanceBlock:
    """A block's arrays as the networks take them."""
    lip, expression = (torch.from_numpy(array.copy()) for array in (data.lip, data.expression))
    return PerformanceBlock(range(data.start, data.start + len(lip)), lip, expression)


class VAIDReplica:
    """The deployment: `perform` yields the block, which stays in the object store, and then its receipt."""

    def __init__(self, checkpoint: str, artifacts: str, device: str = "cpu", threads: int = 1) -> None:
        self._thread = ComputeThread(threads)
        pipeline = load_pipeline(
            Path(checkpoint),
            device,
            parts=("audio_encoder", "expression_encoder", "emotion_mapping", "vaid"),
        )
        self._worker = VAIDWorker(pipeline.performer, ArtifactStore(artifacts))

    async def perform(self, call: PerformCall, *before: BlockData) -> AsyncGenerator[BlockData | Receipt, None]:
        """Block `call.block`; the block before it goes along but for the first."""
        start = time.perf_counter()
        yield await self._thread.run(self._worker.perform, call, before[0] if before else None)
        yield Receipt(worker_name(), time.perf_counter() - start)

    async def check_health(self) -> None:
        """Raises if computing has not come to an end for long."""
        self._thread.check()
