"""One poll of the job store serves all streams of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from emotivetalk.actors.errors import JobNotFoundError, JobStoreError
from emotivetalk.actors.serving.gateway.watching import JobWatcher
from emotivetalk.actors.serving.jobs.store import Job, JobStatus, JobStore, NewJob, Segment, new_job_id

OWNER = "alice"


class CountingStore(JobStore):
    """Counts the looks at the jobs, and fails when asked to."""

    num_looks = 0
    error: JobStoreError | None = None

    def changes(self, known):
        self.num_looks += 1
        if self.error is not None:
            raise self.error
        return super().changes(known)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[CountingStore]:
    store = CountingStore(f"sqlite:///{tmp_path}/jobs.db")
    yield store
    store.close()


def create(jobs: JobStore) -> str:
    new = NewJob(job_id=new_job_id(), owner=OWNER, request={}, fingerprint="f", num_frames=30, width=8, height=8)
    return jobs.create(new)[0].job_id


def segment(job_id: str, index: int) -> Segment:
    return Segment(job_id, index, 10 * index, 10, f"{index}.m4s", 3, "0" * 64)


async def collect(watcher: JobWatcher, job_id: str, seen: list[Job]) -> None:
    async for job in watcher.states(job_id, OWNER):
        seen.append(job)


def test_only_changed_jobs_are_read(jobs: CountingStore) -> None:
    first, second = create(jobs), create(jobs)
    missing = new_job_id()
    known = jobs.changes({first: None, second: None, missing: None})
    assert known == {first: jobs.get(first), second: jobs.get(second), missing: None}
    jobs.cancel(second)
    assert jobs.changes(known) == {second: jobs.get(second), missing: None}
    jobs.delete(first)
    assert jobs.changes(known) == {first: None, second: jobs.get(second), missing: None}


def test_many_streams_cost_one_look_at_a_time(jobs: CountingStore) -> None:
    async def run() -> None:
        ids = [create(jobs) for _ in range(3)]
        watcher, poll_s = JobWatcher(jobs, 0.1), 0.1
        seen: list[list[Job]] = [[] for _ in range(60)]
        begun = asyncio.get_running_loop().time()
        streams = [asyncio.create_task(collect(watcher, ids[one % 3], seen[one])) for one in range(60)]
        while not all(seen):
            await asyncio.sleep(0.01)
        claim = jobs.claim("worker")
        assert claim is not None
        while not all(states[-1].status is JobStatus.IN_PROGRESS for states in seen[::3]):
            await asyncio.sleep(0.01)
        for job_id in ids:
            jobs.cancel(job_id)
        await asyncio.gather(*streams)
        assert all(states[-1].status is JobStatus.CANCELLED for states in seen)
        assert all(len(states) == (3 if one % 3 == 0 else 2) for one, states in enumerate(seen))
        took_s = asyncio.get_running_loop().time() - begun
        assert jobs.num_looks <= took_s / poll_s + 2  # and not sixty times as many
        num_looks = jobs.num_looks
        await asyncio.sleep(3 * poll_s)
        assert jobs.num_looks == num_looks  # nobody waits any more
        watcher.close()

    asyncio.run(run())


def test_streams_of_segments_share_what_was_read(jobs: CountingStore) -> None:
    async def run() -> None:
        job_id, watcher = create(jobs), JobWatcher(jobs, 0.02)
        claim = jobs.claim("worker")
        assert claim is not None
        jobs.plan(claim, 3)
        jobs.publish_segment(claim, segment(job_id, 0))
        states, seen = watcher.states(job_id, OWNER), []
        seen.append(await anext(states))  # followed without segments at first
        async with aclosing(watcher.published(job_id, OWNER)) as first:
            job, published = await anext(first)
            assert (job.next_segment, [one.index for one in published]) == (1, [0])
            jobs.publish_segment(claim, segment(job_id, 1))
            async with aclosing(watcher.published(job_id, OWNER)) as second:
                while len((await anext(second))[1]) < 2:
                    pass
                jobs.publish_segment(claim, segment(job_id, 2))
                jobs.complete(claim, "video.mp4")
                for stream in (first, second):
                    job, published = [state async for state in stream][-1]
                    assert job.status is JobStatus.COMPLETED and [one.index for one in published] == [0, 1, 2]
        await states.aclose()
        watcher.close()

    asyncio.run(run())


def test_a_stream_ends_with_its_job(jobs: CountingStore) -> None:
    async def run() -> None:
        job_id, watcher = create(jobs), JobWatcher(jobs, 0.02)
        for wrong, owner in ((new_job_id(), OWNER), (job_id, "bob")):
            with pytest.raises(JobNotFoundError):
                await anext(watcher.states(wrong, owner))
        states = watcher.states(job_id, OWNER)
        await anext(states)
        jobs.delete(job_id)
        with pytest.raises(JobNotFoundError):
            await anext(states)
        watcher.close()

    asyncio.run(run())


def test_streams_see_that_the_job_store_failed_and_later_ones_go_on(jobs: CountingStore) -> None:
    async def run() -> None:
        job_id, watcher = create(jobs), JobWatcher(jobs, 0.02)
        states = watcher.states(job_id, OWNER)
        await anext(states)
        jobs.error = JobStoreError("job_store_unavailable", "no answer", "Start it.")
        with pytest.raises(JobStoreError):
            await anext(states)
        jobs.error = None
        again = watcher.states(job_id, OWNER)
        assert (await anext(again)).job_id == job_id
        await again.aclose()
        watcher.close()

    asyncio.run(run())
