"""The decoder as a deployment: a segment's latents to frames, to a fragment, to the artifact store."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.files import JobFiles, live_portrait
from emotivetalk.actors.serving.observing import logs, tracing
from emotivetalk.actors.serving.replicas.messages import (
    ChunkData,
    FinishCall,
    FinishedLiveSegment,
    FinishedSegment,
    LiveFinishCall,
    LivePortrait,
)
from emotivetalk.actors.serving.replicas.startup import ComputeThreads, start_replica
from emotivetalk.media.fragments import ClipAudio, fragment, init_segment
from emotivetalk.media.provenance import Provenance
from emotivetalk.models.autoencoder import PortraitFeatures
from emotivetalk.models.frame_decoder import DECODED_AT_ONCE, FrameDecoder
from emotivetalk.models.long_video import blend, finish
from emotivetalk.models.long_video_plan import CallId
from emotivetalk.models.pipeline import load_pipeline

MAX_CACHED_PORTRAITS = 16

log = logging.getLogger(__name__)


class DecoderWorker:
    """The decoder's work without Ray.

    Args:
        model: name and version of the checkpoint, for the file's metadata.
        software: name and version of this program, likewise.
    """

    def __init__(self, frame_decoder: FrameDecoder, artifacts: ArtifactStore, model: str, software: str) -> None:
        self._frame_decoder, self._artifacts = frame_decoder, artifacts
        self._model, self._software = model, software
        self._portrait_features = lru_cache(maxsize=MAX_CACHED_PORTRAITS)(self._compute_features)

    def finish(self, call: FinishCall, chunks: Sequence[ChunkData]) -> FinishedSegment:
        """Decode, encode and store a segment. A repeated call writes the same bytes."""
        files, start = JobFiles(self._artifacts, call.job_id), time.perf_counter()
        results = _results(chunks)
        tail_path = None
        with tracing.span("decode"):
            if call.own_tail.sources:
                tail_path = files.tail(call.index, call.fence)
                files.write_tail(tail_path, blend(call.own_tail, results))
            latents = finish(call.result, call.ease, results, self._tail(call, results))
            frames = self._decode(latents, self._portrait_features(call.job_id, None))
        decoded = time.perf_counter()
        with tracing.span("mux"):
            path, data = self._store(call, files, frames)
        timings = {"decode": decoded - start, "mux": time.perf_counter() - decoded}
        return FinishedSegment(
            call.index,
            call.result.frames.start,
            len(frames),
            path,
            len(data),
            hashlib.sha256(data).hexdigest(),
            tail_path,
            timings,
        )

    def _store(self, call: FinishCall, files: JobFiles, frames: np.ndarray) -> tuple[str, bytes]:
        """Encode a segment's frames and write the fragment, and the initialisation segment with the first one."""
        is_last = call.result.frames.stop == call.num_frames
        with self._artifacts.local(files.audio) as audio_path, ClipAudio(audio_path) as audio:
            data = fragment(frames, call.result.frames.start, audio, is_last=is_last, sequence=call.index)
        if call.index == 0:
            tags = Provenance(self._model, call.request.seed, self._software).tags()
            self._artifacts.write(files.init, init_segment(frames.shape[2], frames.shape[1], tags=tags))
        path = files.fragment(call.index, call.fence)
        self._artifacts.write(path, data)
        return path, data

    def finish_live(self, call: LiveFinishCall, chunks: Sequence[ChunkData]) -> FinishedLiveSegment:
        """Decode and encode a live call's segment without storing anything."""
        results, start = _results(chunks), time.perf_counter()
        with tracing.span("decode"):
            tail = None if call.tail is None else blend(call.tail, results)
            latents = finish(call.result, call.ease, results, tail)
            features = self._portrait_features(call.live_id, call.portrait)
            frames = self._decode(latents[: call.num_frames : call.picture_frames], features)
        decoded, first = time.perf_counter(), call.result.frames.start
        with tracing.span("mux"):
            data = fragment(
                frames,
                first,
                call.sound,
                is_last=call.is_last,
                sequence=call.index,
                num_frames=call.num_frames,
                picture_frames=call.picture_frames,
            )
        timings = {"decode": decoded - start, "mux": time.perf_counter() - decoded}
        num_dropped = call.num_frames - len(frames)
        return FinishedLiveSegment(call.index, first, call.num_frames, num_dropped, data, timings)

    def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        """Join the initialisation segment and the fragments to one file in the artifact store; return its path."""
        files = JobFiles(self._artifacts, job_id)
        with tempfile.TemporaryDirectory(prefix="emotivetalk-") as folder:
            whole = Path(folder) / "video.mp4"
            with whole.open("wb") as out:
                for path in (files.init, *fragments):
                    out.write(self._artifacts.read(path))
            self._artifacts.upload(whole, files.video)
        return files.video

    def _tail(self, call: FinishCall, results: Mapping[CallId, Tensor]) -> Tensor | None:
        """Return the end of the previous segment if this one is joined to it."""
        if call.tail is not None:
            return blend(call.tail, results)
        if call.tail_path is not None:
            return JobFiles(self._artifacts, call.job_id).read_tail(call.tail_path)
        return None

    def _decode(self, latents: Tensor, features: PortraitFeatures | None) -> np.ndarray:
        return torch.cat(
            [self._frame_decoder.decode(part, features) for part in latents.split(DECODED_AT_ONCE)]
        ).numpy()

    def _compute_features(self, job_id: str, portrait: LivePortrait | None) -> PortraitFeatures | None:
        if portrait is not None:
            return self._frame_decoder.portrait_features(live_portrait(portrait))
        return self._frame_decoder.portrait_features(JobFiles(self._artifacts, job_id).portrait())


def _results(data: Sequence[ChunkData]) -> dict[CallId, Tensor]:
    return {key: torch.from_numpy(chunk.copy()) for item in data for key, chunk in item.chunks.items()}


class DecoderReplica:
    """The deployment. A job's video goes to the artifact store; only a live fragment returns to the caller."""

    def __init__(
        self, checkpoint: str, artifacts: str, model: str, software: str, device: str = "cpu", threads: int = 1
    ) -> None:
        start_replica("decoder")
        self._threads = ComputeThreads.of_chunks(threads, device)
        pipeline = load_pipeline(Path(checkpoint), device, parts=("vae",))
        self._worker = DecoderWorker(FrameDecoder(pipeline.vae), ArtifactStore(artifacts), model, software)

    async def finish(self, call: FinishCall, *chunks: ChunkData) -> FinishedSegment:
        """Decode, encode and store a segment."""
        logs.about(call.job_id)
        with tracing.span(
            "decoder", call.trace, kind=tracing.SpanKind.SERVER, video_id=call.job_id, segment=call.index
        ):
            segment = await self._threads.run(self._worker.finish, call, chunks)
        log.info(
            "segment %d stored: %d frames, %d bytes, %s",
            segment.index,
            segment.num_frames,
            segment.num_bytes,
            segment.timings,
        )
        return segment

    async def finish_live(self, call: LiveFinishCall, *chunks: ChunkData) -> FinishedLiveSegment:
        """Decode and encode a segment of a live call."""
        logs.about(call.live_id)
        with tracing.span(
            "decoder", call.trace, kind=tracing.SpanKind.SERVER, video_id=call.live_id, segment=call.index
        ):
            segment = await self._threads.run(self._worker.finish_live, call, chunks)
        log.debug(
            "segment %d encoded: %d frames, %d bytes, %s",
            segment.index,
            segment.num_frames,
            len(segment.data),
            segment.timings,
        )
        return segment

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        """Join the fragments to the finished file; return its path."""
        logs.about(job_id)
        path = await self._threads.run(self._worker.assemble, job_id, fragments)
        log.info("file of %d fragments stored", len(fragments))
        return path

    async def check_health(self) -> None:
        """Raise ServingError if a computation hangs."""
        self._threads.check()
