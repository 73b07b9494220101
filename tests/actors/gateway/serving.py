"""A whole service without a model: uvicorn on a free port, real stores, and a director that only pretends to render."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import uvicorn

from emotivetalk.actors.errors import FencedError
from emotivetalk.actors.serving.batches.runner import BatchRunner
from emotivetalk.actors.serving.gateway.http.app import http_app
from emotivetalk.actors.serving.gateway.http.batches import HttpFront
from emotivetalk.actors.serving.gateway.service import Intake, ServedModel, VideoService
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.intake.decoding import Prepared
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.store import Claim, JobError, JobStore, Segment
from emotivetalk.errors import InputError

MODEL = ServedModel("emotivetalk-test", "test-0123abcd", 64)
TOKEN, OTHER_TOKEN = "alice-has-this-token", "bob-has-another-token"
FACE, SPEECH = b"face: a picture", b"speech: a sound"
FRAMES_PER_SEGMENT = 10


def pretend_to_prepare(
    portrait: Path,
    audio: Path,
    emotion_image: Path | None,
    emotion_video: Path | None,
    folder: Path,
    *,
    names: dict[str, str],
    **settings: object,
) -> Prepared:
    """Half a second of speech for each byte after "speech: "; a portrait must begin with "face"."""
    if not portrait.read_bytes().startswith(b"face"):
        raise InputError("face_missing", f"there is no face in portrait {names['portrait']!r}", "Give another.")
    if not audio.read_bytes().startswith(b"speech: "):
        raise InputError("audio_corrupt", f"audio {names['audio']!r} cannot be decoded", "Export it again.")
    num_samples = 8000 * len(audio.read_bytes().removeprefix(b"speech: "))
    files = {name: folder / name for name in ("portrait.png", "speech.f32", "speech.m4a")}
    for name, source in zip(files, (portrait, audio, audio), strict=True):
        files[name].write_bytes(source.read_bytes())
    for name, source in (("emotion.png", emotion_image), ("emotion.npy", emotion_video)):
        if source is not None:
            files[name] = folder / name
            files[name].write_bytes(source.read_bytes())
    return Prepared(num_samples, max(1, num_samples * 25 // 16000), 64, files)


class Director(threading.Thread):
    """Claims jobs one after the other and publishes segments of a few bytes; `gate` holds each segment back if given."""

    def __init__(self, jobs: JobStore, artifacts: ArtifactStore, gate: threading.Semaphore | None = None) -> None:
        super().__init__(daemon=True)
        self.jobs, self.artifacts, self.gate = jobs, artifacts, gate
        self.fails_with: JobError | None = None
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            claim = self.jobs.claim("test")
            if claim is None:
                time.sleep(0.01)
                continue
            try:
                self.render(claim)
            except FencedError:
                continue  # deleted or cancelled meanwhile

    def render(self, claim: Claim) -> None:
        job = claim.job
        num_segments = -(-job.num_frames // FRAMES_PER_SEGMENT)
        self.jobs.plan(claim, num_segments)
        whole = b"<init>"
        self.artifacts.write(f"jobs/{job.job_id}/init.mp4", whole)
        for index in range(num_segments):
            while self.gate is not None and not self.gate.acquire(timeout=0.05):
                if self.ending.is_set():
                    return
                self.jobs.renew(claim)
            if self.fails_with is not None:
                self.jobs.fail(claim, self.fails_with)
                return
            data = f"<fragment {index}>".encode()
            path = f"jobs/{job.job_id}/segments/{index:05d}-{claim.fence}.m4s"
            self.artifacts.write(path, data)
            start = index * FRAMES_PER_SEGMENT
            num_frames = min(FRAMES_PER_SEGMENT, job.num_frames - start)
            digest, timings = sha256(data).hexdigest(), {"decode": 0.25}
            self.jobs.publish_segment(
                claim, Segment(job.job_id, index, start, num_frames, path, len(data), digest, None, timings)
            )
            whole += data
        self.artifacts.write(f"jobs/{job.job_id}/video.mp4", whole)
        self.jobs.complete(claim, f"jobs/{job.job_id}/video.mp4")


def film(num_segments: int) -> bytes:
    """Return the bytes of the director's video of this number of segments."""
    return b"<init>" + b"".join(f"<fragment {index}>".encode() for index in range(num_segments))


@dataclass
class Serving:
    """A running service and what is behind it."""

    url: str
    service: VideoService
    folder: Path

    @property
    def jobs(self) -> JobStore:
        return self.service.jobs

    @property
    def artifacts(self) -> ArtifactStore:
        return self.service.artifacts

    def leftovers(self) -> list[Path]:
        """List the folder of uploads and the jobs of the artifact store."""
        return [*(self.folder / "uploads").iterdir(), *(self.folder / "artifacts").glob("jobs/*")]


class Server:
    """uvicorn in a thread."""

    def __init__(self, folder: Path, settings: GatewaySettings, tools: Intake) -> None:
        (folder / "uploads").mkdir()
        settings = settings.model_copy(update={"upload_folder": folder / "uploads"})
        jobs = JobStore(f"sqlite:///{folder}/jobs.db")
        service = VideoService(jobs, ArtifactStore(f"{folder}/artifacts"), settings, MODEL, tools)
        config = uvicorn.Config(http_app(lambda: service, settings), port=0, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        self._runner = BatchRunner(service, HttpFront(MODEL.name), "test")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.serving = Serving(f"http://127.0.0.1:{port}", service, folder)

    async def _run(self) -> None:
        batches = asyncio.create_task(self._runner.run())
        await self._server.serve()
        batches.cancel()
        await asyncio.gather(batches, return_exceptions=True)

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self.serving.service.close()
        self.serving.jobs.close()


def wait_until(is_so: object, timeout_s: float = 10.0) -> None:
    """Wait until the callable says true."""
    assert callable(is_so)
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.01)
