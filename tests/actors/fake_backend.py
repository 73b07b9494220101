"""A backend for tests of the gateway. It does not decode inputs, and publishes jobs without rendering them."""

from __future__ import annotations

import threading
import time
from hashlib import sha256
from pathlib import Path

from emotivetalk.actors.errors import FencedError
from emotivetalk.actors.serving.gateway.service import ServedModel
from emotivetalk.actors.serving.intake.decoding import Prepared
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.store import Claim, Job, JobError, JobStore, Segment
from emotivetalk.errors import InputError

MODEL = ServedModel("emotivetalk-test", "test-0123abcd", 64)
FACE, SPEECH = b"face: a picture", b"speech: a sound"


def fake_prepare(
    portrait: Path,
    audio: Path,
    emotion_image: Path | None,
    emotion_video: Path | None,
    folder: Path,
    *,
    names: dict[str, str],
    **settings: object,
) -> Prepared:
    """Copy the inputs. Each byte after "speech: " is half a second of speech; a portrait must begin with "face"."""
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
    return Prepared(num_samples, max(1, num_samples * 25 // 16000), MODEL.image_size, files)


class FakeDirector(threading.Thread):
    """Claims jobs one after the other and publishes segments of a few bytes.

    gate: if given, each segment waits until it is released. fails_with: if set, jobs fail at their next segment.
    """

    frames_per_segment = 10

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
                continue  # the job was deleted or cancelled in the meantime

    def stop(self) -> None:
        self.ending.set()
        self.join(10)

    def render(self, claim: Claim) -> None:
        job = claim.job
        num_segments = -(-job.num_frames // self.frames_per_segment)
        self.jobs.plan(claim, num_segments)
        whole = b"<init>"
        self.artifacts.write(f"jobs/{job.job_id}/init.mp4", whole)
        for index in range(num_segments):
            if not self.may_publish(claim, index):
                return
            data = self.fragment(job, index)
            path = f"jobs/{job.job_id}/segments/{index:05d}-{claim.fence}.m4s"
            self.artifacts.write(path, data)
            start = index * self.frames_per_segment
            num_frames = min(self.frames_per_segment, job.num_frames - start)
            digest, timings = sha256(data).hexdigest(), {"decode": 0.25}
            self.jobs.publish_segment(
                claim, Segment(job.job_id, index, start, num_frames, path, len(data), digest, None, timings)
            )
            whole += data
        self.artifacts.write(f"jobs/{job.job_id}/video.mp4", whole)
        self.jobs.complete(claim, f"jobs/{job.job_id}/video.mp4")

    def may_publish(self, claim: Claim, index: int) -> bool:
        """Wait for the gate. Returns False if the job has failed or the director is ending."""
        while self.gate is not None and not self.gate.acquire(timeout=0.05):
            if self.ending.is_set():
                return False
            self.jobs.renew(claim)
        if self.fails_with is not None:
            self.jobs.fail(claim, self.fails_with)
            return False
        return True

    def fragment(self, job: Job, index: int) -> bytes:
        return f"<fragment {index}>".encode()


def video_bytes(num_segments: int) -> bytes:
    """Return the bytes of FakeDirector's video of this number of segments."""
    return b"<init>" + b"".join(f"<fragment {index}>".encode() for index in range(num_segments))
