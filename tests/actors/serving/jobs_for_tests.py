"""Helpers that bring a job into a given state."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from emotivetalk.actors.serving.jobs import deliveries
from emotivetalk.actors.serving.jobs import rows as job_rows
from emotivetalk.actors.serving.jobs.store import Claim, Job, JobStore, NewJob, Segment, new_job_id

# New processes are forked from a server process that has already imported this module.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.actors.serving.jobs_for_tests"])

SEGMENT_FRAMES = 10
NUM_SEGMENTS = 3


class Clock:
    """A clock that the test sets, in seconds since the epoch."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def new_job(**changes: Any) -> NewJob:
    """Return a job to create; `changes` replace its fields."""
    fields = {"owner": "ada", "request": {"seed": 1}, "fingerprint": "f" * 64, "num_frames": 30}
    return NewJob(**{"job_id": new_job_id(), "width": 256, "height": 256} | fields | changes)


def add(store: JobStore, owner: str = "ada", **options: object) -> Job:
    """Create a queued job of three segments of ten frames."""
    num_frames = NUM_SEGMENTS * SEGMENT_FRAMES
    job, created = store.create(new_job(**{"owner": owner, "num_frames": num_frames, **options}))
    assert created
    return job


def claimed(store: JobStore, worker: str = "worker") -> Claim:
    claim = store.claim(worker)
    assert claim is not None
    return claim


def segment(claim: Claim, index: int, start_frame: int | None = None, num_frames: int = SEGMENT_FRAMES) -> Segment:
    path = f"jobs/{claim.job.job_id}/segments/{index:05d}-{claim.fence}.m4s"
    start = index * SEGMENT_FRAMES if start_frame is None else start_frame
    return Segment(claim.job.job_id, index, start, num_frames, path, 1234, "a" * 64, None, {"ethd": 1.5})


def finish(store: JobStore, claim: Claim) -> Job:
    """Publish the missing segments and complete the job."""
    job = store.plan(claim, NUM_SEGMENTS)
    for index in range(job.next_segment, NUM_SEGMENTS):
        store.publish_segment(claim, segment(claim, index))
    return store.complete(claim, f"jobs/{job.job_id}/video.mp4")


@contextmanager
def process(work: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Run `work(pipe, *arguments)` in another process until the block ends, then kill it. Yields our end of the pipe."""
    ours, theirs = _CONTEXT.Pipe()
    worker = _CONTEXT.Process(target=work, args=(theirs, *arguments), daemon=True)
    worker.start()
    theirs.close()  # so that reading from a dead process ends
    try:
        yield ours
    finally:
        worker.kill()
        worker.join()
        ours.close()


def claim_all(pipe: Connection, url: str, worker: str) -> None:
    """Wait for a message, open the store, wait for another, claim every job and send the claims."""
    pipe.send("started")
    pipe.recv()
    store = JobStore(url, lease_s=1e6)
    pipe.send("ready")
    pipe.recv()
    claims = []
    while (claim := store.claim(worker)) is not None:
        claims.append((claim.job.job_id, claim.fence))
    pipe.send(claims)


def change_and_hang(pipe: Connection, url: str, change: str, now: float) -> None:
    """Claim the only job, publish one segment, and hang in the middle of a transaction."""

    def hang(*_: object, **__: object) -> NoReturn:
        pipe.send("in the middle")
        while True:
            time.sleep(1e6)

    store = JobStore(url, clock=lambda: now)
    if change == "claim":
        real = job_rows.change
        job_rows.change = lambda *arguments, **values: hang(real(*arguments, **values))
        store.claim("hanging")
    claim = claimed(store)
    store.plan(claim, NUM_SEGMENTS)
    store.publish_segment(claim, segment(claim, 0))
    match change:
        case "publish":
            job_rows.change = hang  # the segment's row is written, the job's row is not
            store.publish_segment(claim, segment(claim, 1))
        case "complete":
            deliveries.enqueue = hang  # the job's row is written, the webhook's row is not
            finish(store, claim)
        case "delete":
            job_rows.leave_files = hang  # the job's row is deleted, its files are not recorded for removal
            store.delete(claim.job.job_id)
