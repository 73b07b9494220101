"""ETHD's work without Ray: chunks of any videos advance by one step (`models/long_video.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256

import torch
from torch import Tensor

from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.files import JobFiles, live_portrait
from emotivetalk.actors.serving.replicas.messages import BlockData, ChunkData, LivePortrait, RenderCall
from emotivetalk.actors.serving.replicas.vaid import to_block
from emotivetalk.models.diffusion import Guidance
from emotivetalk.models.ethd import Conditions
from emotivetalk.models.face_mask import FaceRegion
from emotivetalk.models.frame_decoder import FrameDecoder
from emotivetalk.models.latent_sampler import LatentSampler, PortraitConditions, stack
from emotivetalk.models.long_video import NoisyChunk, blend, noisy_chunk, solver_step
from emotivetalk.models.long_video_plan import CallId
from emotivetalk.models.motion_generator import join

MAX_CACHED_LATENTS = 16


@dataclass(frozen=True)
class _Chunk:
    noisy: NoisyChunk
    conditions: Conditions


class _Portrait:
    """A picture that is compared by content, so that videos of one portrait share its latent."""

    def __init__(self, picture: Tensor) -> None:
        self.picture, self._digest = picture, sha256(picture.numpy().tobytes()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Portrait) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)


class ETHDWorker:
    """Executes ETHD calls. A call is a pure function of its arguments.

    Args:
        chunks_at_once: maximum number of chunks in one network call. They may belong to several calls and videos.
    """

    def __init__(
        self,
        latent_sampler: LatentSampler,
        frame_decoder: FrameDecoder,
        artifacts: ArtifactStore,
        chunks_at_once: int = 1,
    ) -> None:
        self._latent_sampler, self._frame_decoder, self._artifacts = latent_sampler, frame_decoder, artifacts
        self.chunks_at_once = chunks_at_once
        self._portrait = lru_cache(maxsize=MAX_CACHED_LATENTS)(self._read_portrait)
        self._latent = lru_cache(maxsize=MAX_CACHED_LATENTS)(self._encode_portrait)

    @torch.no_grad()
    def render(self, requests: Sequence[tuple[RenderCall, Sequence[BlockData | ChunkData]]]) -> list[ChunkData]:
        """Advance the chunks of all these calls by one step.

        Args:
            requests: each call with its arguments, V-AID's blocks first.
        """
        prepared = [self._prepare(call, data) for call, data in requests]
        by_shape: dict[torch.Size, list[_Chunk]] = {}
        for chunk in (chunk for chunks in prepared for chunk in chunks):
            by_shape.setdefault(chunk.noisy.x.shape, []).append(chunk)
        stepped: dict[int, Tensor] = {}
        for chunks in by_shape.values():
            for first in range(0, len(chunks), self.chunks_at_once):
                batch = chunks[first : first + self.chunks_at_once]
                stepped |= {id(chunk): result for chunk, result in zip(batch, self._step(batch), strict=True)}
        return [
            ChunkData({chunk.noisy.call.id: stepped[id(chunk)].cpu().numpy() for chunk in chunks})
            for chunks in prepared
        ]

    def _step(self, batch: Sequence[_Chunk]) -> Tensor:
        denoise = partial(
            self._latent_sampler.denoise,
            conditions=stack([chunk.conditions for chunk in batch]),
            guidance=Guidance(),
        )
        return solver_step([chunk.noisy for chunk in batch], denoise)

    def _prepare(self, call: RenderCall, data: Sequence[BlockData | ChunkData]) -> list[_Chunk]:
        sampler = self._latent_sampler
        blocks = [block for block in data[: call.num_blocks] if isinstance(block, BlockData)]
        results = {
            key: torch.from_numpy(chunk.copy()).to(sampler.device)
            for item in data[call.num_blocks :]
            if isinstance(item, ChunkData)
            for key, chunk in item.chunks.items()
        }
        portrait = self._portrait_conditions(call, blocks)
        motion_at = partial(join, [to_block(block) for block in blocks])
        sigmas, noise = sampler.sigmas(call.request.num_steps), sampler.noise(portrait, call.request.seed)
        tail = self._tail(call, results)
        return [
            _Chunk(
                noisy_chunk(chunk, results, tail, noise, sigmas),
                sampler.conditions(portrait, motion_at, call.num_frames, chunk.frames),
            )
            for chunk in call.calls
        ]

    def _tail(self, call: RenderCall, results: dict[CallId, Tensor]) -> Tensor | None:
        if call.tail is not None:
            return blend(call.tail, results)
        if call.tail_path is not None:
            return JobFiles(self._artifacts, call.job_id).read_tail(call.tail_path).to(self._latent_sampler.device)
        return None

    def _portrait_conditions(self, call: RenderCall, blocks: Sequence[BlockData]) -> PortraitConditions:
        latent = self._latent(self._portrait(call.job_id, call.portrait))
        reference = torch.from_numpy(blocks[0].expression_reference.copy())
        return PortraitConditions(latent, reference, FaceRegion().mask(*latent.shape[-2:]))

    def _read_portrait(self, job_id: str, portrait: LivePortrait | None) -> _Portrait:
        return _Portrait(JobFiles(self._artifacts, job_id).portrait() if portrait is None else live_portrait(portrait))

    def _encode_portrait(self, portrait: _Portrait) -> Tensor:
        return self._frame_decoder.reference_latent(portrait.picture)
