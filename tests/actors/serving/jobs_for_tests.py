"""Short ways to the states of a job."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from emotivetalk.actors.serving.jobs import deliveries
from emotivetalk.actors.serving.jobs import rows as job_rows
from emotivetalk.actors.serving.jobs.store import Claim, Job, JobStore, NewJob, Segment, new_job_id

# Processes are forked from one that has imported what they need and does nothing else.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.actors.serving.jobs_for_tests"])

SEGMENT_FRAMES = 10
NUM_SEGMENTS = 3


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def new_job(**changes: Any) -> NewJob:
    """A job to create; `changes` replace its fields."""
    fields = {"owner": "ada", "request": {"seed": 1}, "fingerprint": "f" * 64, "num_frames": 30}
    return NewJob(**{"job_id": new_job_id(), "width": 256, "height": 256} | fields | changes)


def add(store: JobStore, owner: str = "ada", **options: object) -> Job:
    """A queued job of three segments of ten frames."""
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
    """Publish what is missing and complete the job."""
    job = store.plan(claim, NUM_SEGMENTS)
    for index in range(job.next_segment, NUM_SEGMENTS):
        store.publish_segment(claim, segment(claim, index))
    return store.complete(claim, f"jobs/{job.job_id}/video.mp4")


@contextmanager
def process(work: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Another process that runs `work(pipe, *arguments)`; gives this side's end of the pipe. Killed at the end, by -9."""
    here, there = _CONTEXT.Pipe()
    worker = _CONTEXT.Process(target=work, args=(there, *arguments), daemon=True)
    worker.start()
    there.close()  # so that reading from a dead process ends
    try:
        yield here
    finally:
        worker.kill()
        worker.join()
        here.close()


def claim_all(pipe: Connection, url: str, worker: str) -> None:
    """Open the store after a message, then claim every job and send the claims."""
    pipe.send("started")
    pipe.recv()
    store = JobStore(url, lease_s=1e6)
    pipe.send("ready")
    pipe.recv()
    taken = []
    while (claim := store.claim(worker)) is not None:
        taken.append((claim.job.job_id, claim.fence))
    pipe.send(taken)


def change_and_hang(pipe: Connection, url: str, change: str, now: float) -> None:
    """Take the only job, publish one segment, and begin a change in the middle of which it stops for ever."""

    def hang(*_: object, **__: object) -> NoReturn:
        pipe.send("in the middle")
        while True:
            time.sleep(1e6)

    store = JobStore(url, clock=lambda: now)
    if change == "claim":
        real = job_rows.change
        job_rows.change = lambda *arguments, **values: hang(real(*arguments, **values))
        store.claim("dying")
    claim = claimed(store)
    store.plan(claim, NUM_SEGMENTS)
    store.publish_segment(claim, segment(claim, 0))
    match change:
        case "publish":
            job_rows.change = hang  # the segment's row is written, the job's is not
            store.publish_segment(claim, segment(claim, 1))
        case "complete":
            deliveries.enqueue = hang  # the job's row is written, the webhook's is not
            finish(store, claim)
        case "delete":
            job_rows.leave_files = hang  # the job's row is gone, nobody knows of its files
            store.delete(claim.job.job_id)
