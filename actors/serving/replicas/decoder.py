"""The decoder as a deployment: a segment's latents to pictures, to a fragment, to the artifact store."""

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
    Finished,
    LiveFinishCall,
    LiveFinished,
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

PORTRAITS_KEPT = 16
COPIED_AT_ONCE = 1 << 20

log = logging.getLogger(__name__)


class DecoderWorker:
    """The work, without Ray.

    Args:
        model: name and version of the checkpoint, for the file's metadata.
        software: the same of this program.
    """

    def __init__(self, frame_decoder: FrameDecoder, artifacts: ArtifactStore, model: str, software: str) -> None:
        self._frame_decoder, self._artifacts = frame_decoder, artifacts
        self._model, self._software = model, software
        self._seen = lru_cache(maxsize=PORTRAITS_KEPT)(self._look)

    def finish(self, call: FinishCall, data: Sequence[ChunkData]) -> Finished:
        """Decode, encode and store a segment. The same call leaves the same bytes, so it may be repeated."""
        files, start = JobFiles(self._artifacts, call.job_id), time.perf_counter()
        results = _results(data)
        tail_path = None
        with tracing.span("decode"):
            if call.tail.sources:
                tail_path = files.tail(call.index, call.fence)
                files.write_tail(tail_path, blend(call.tail, results))
            latents = finish(call.result, call.ease, results, self._before(call, results))
            frames = self._pictures(latents, self._seen(call.job_id, None))
        decoded = time.perf_counter()
        with tracing.span("mux"):
            path, made = self._store(call, files, frames)
        timings = {"decode": decoded - start, "mux": time.perf_counter() - decoded}
        return Finished(
            call.index,
            call.result.frames.start,
            len(frames),
            path,
            len(made),
            hashlib.sha256(made).hexdigest(),
            tail_path,
            timings,
        )

    def _store(self, call: FinishCall, files: JobFiles, frames: np.ndarray) -> tuple[str, bytes]:
        """Encode a segment's pictures and write the fragment, with the file's head if it is the first."""
        is_last = call.result.frames.stop == call.num_frames
        with self._artifacts.local(files.audio) as audio_path, ClipAudio(audio_path) as audio:
            made = fragment(frames, call.result.frames.start, audio, is_last=is_last, sequence=call.index)
        if call.index == 0:
            tags = Provenance(self._model, call.request.seed, self._software).tags()
            self._artifacts.write(files.init, init_segment(frames.shape[2], frames.shape[1], tags=tags))
        path = files.fragment(call.index, call.fence)
        self._artifacts.write(path, made)
        return path, made

    def finish_live(self, call: LiveFinishCall, data: Sequence[ChunkData]) -> LiveFinished:
        """Decode and encode a live call's segment; nothing is stored."""
        results, start = _results(data), time.perf_counter()
        with tracing.span("decode"):
            before = None if call.before is None else blend(call.before, results)
            latents = finish(call.result, call.ease, results, before)
            frames = self._pictures(latents[: call.num_frames], self._seen(call.live_id, call.portrait))
        decoded, first = time.perf_counter(), call.result.frames.start
        with tracing.span("mux"):
            made = fragment(frames, first, call.sound, is_last=call.is_last, sequence=call.index)
        timings = {"decode": decoded - start, "mux": time.perf_counter() - decoded}
        return LiveFinished(call.index, first, len(frames), made, timings)

    def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        """Head and fragments as one file in the artifact store; gives its path."""
        files = JobFiles(self._artifacts, job_id)
        with tempfile.TemporaryDirectory(prefix="emotivetalk-") as folder:
            whole = Path(folder) / "video.mp4"
            with whole.open("wb") as out:
                for path in (files.init, *fragments):
                    out.write(self._artifacts.read(path))
            self._artifacts.upload(whole, files.video)
        return files.video

    def _before(self, call: FinishCall, results: Mapping[CallId, Tensor]) -> Tensor | None:
        """The end of the segment before, if this one is joined to it."""
        if call.ease is None:
            return None
        if call.before is not None:
            return blend(call.before, results)
        assert call.before_path is not None, "a segment before was made in this run, or is stored"
        return JobFiles(self._artifacts, call.job_id).read_tail(call.before_path)

    def _pictures(self, latents: Tensor, seen: PortraitFeatures | None) -> np.ndarray:
        parts = [self._frame_decoder.decode(part, seen) for part in latents.split(DECODED_AT_ONCE)]
        return torch.cat(parts).numpy()

    def _look(self, job_id: str, portrait: LivePortrait | None) -> PortraitFeatures | None:
        if portrait is not None:
            return self._frame_decoder.portrait_features(live_portrait(portrait))
        return self._frame_decoder.portrait_features(JobFiles(self._artifacts, job_id).portrait())


def _results(data: Sequence[ChunkData]) -> dict[CallId, Tensor]:
    return {key: torch.from_numpy(chunk.copy()) for one in data for key, chunk in one.chunks.items()}


class DecoderReplica:
    """The deployment. A job's video goes to the artifact store; only a live fragment goes back to the caller."""

    def __init__(
        self, checkpoint: str, artifacts: str, model: str, software: str, device: str = "cpu", threads: int = 1
    ) -> None:
        start_replica("decoder")
        self._threads = ComputeThreads.of_chunks(threads, device)
        pipeline = load_pipeline(Path(checkpoint), device, parts=("vae",))
        self._artifacts = ArtifactStore(artifacts)
        self._worker = DecoderWorker(FrameDecoder(pipeline.vae), self._artifacts, model, software)

    async def finish(self, call: FinishCall, *data: ChunkData) -> Finished:
        """Decode, encode and store a segment."""
        logs.about(call.job_id)
        with tracing.span(
            "decoder", call.trace, kind=tracing.SpanKind.SERVER, video_id=call.job_id, segment=call.index
        ):
            made = await self._threads.run(self._worker.finish, call, data)
        log.info(
            "segment %d is stored: %d frames, %d bytes, %s", made.index, made.num_frames, made.num_bytes, made.timings
        )
        return made

    async def finish_live(self, call: LiveFinishCall, *data: ChunkData) -> LiveFinished:
        """The fragment of a live call's segment."""
        logs.about(call.live_id)
        with tracing.span(
            "decoder", call.trace, kind=tracing.SpanKind.SERVER, video_id=call.live_id, segment=call.index
        ):
            made = await self._threads.run(self._worker.finish_live, call, data)
        log.debug(
            "segment %d is made: %d frames, %d bytes, %s", made.index, made.num_frames, len(made.data), made.timings
        )
        return made

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        """Make the finished file of the fragments; gives its path."""
        logs.about(job_id)
        path = await self._threads.run(self._worker.assemble, job_id, fragments)
        log.info("the file of %d fragments is stored", len(fragments))
        return path

    async def check_health(self) -> None:
        """Raises if computing has not come to an end for long."""
        self._threads.check()
