"""The job store with many threads, many processes, and processes killed in the middle of a transaction."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import psycopg
import pytest

from emotivetalk.actors.errors import FencedError
from emotivetalk.actors.serving.jobs.store import JobStatus, JobStore
from emotivetalk.actors.serving.jobs.tables import segments
from tests.actors.serving.conftest import USER
from tests.actors.serving.jobs_for_tests import (
    NUM_SEGMENTS,
    Clock,
    add,
    change_and_hang,
    claim_all,
    claimed,
    finish,
    process,
    segment,
)


def test_no_two_threads_claim_the_same_job(store: JobStore) -> None:
    expected = {add(store).job_id for _ in range(24)}

    def claim_jobs(worker: int) -> list[str]:
        job_ids = []
        while (claim := store.claim(f"worker-{worker}")) is not None:
            job_ids.append(claim.job.job_id)
        return job_ids

    with ThreadPoolExecutor(8) as pool:
        claimed_ids = Counter(job_id for jobs in pool.map(claim_jobs, range(8)) for job_id in jobs)
    assert claimed_ids == Counter(expected)


def test_no_two_processes_claim_the_same_job_of_a_store_that_they_create_together(url: str) -> None:
    with ExitStack() as stack:
        pipes = [stack.enter_context(process(claim_all, url, f"worker-{index}")) for index in range(4)]
        assert [pipe.recv() for pipe in pipes] == ["started"] * 4
        for pipe in pipes:
            pipe.send("open")
        assert [pipe.recv() for pipe in pipes] == ["ready"] * 4
        store = JobStore(url)
        expected = {add(store).job_id for _ in range(32)}
        for pipe in pipes:
            pipe.send("go")
        claimed_ids = [one for pipe in pipes for one in pipe.recv()]
    assert Counter(claimed_ids) == Counter((job_id, 1) for job_id in expected)
    store.close()


def test_only_one_concurrent_publication_of_a_segment_succeeds(store: JobStore) -> None:
    job = add(store)
    claim = claimed(store)
    store.plan(claim, NUM_SEGMENTS)

    def publish(number: int) -> bool:
        try:
            store.publish_segment(claim, replace(segment(claim, 0), path=f"jobs/{number}.m4s"))
        except FencedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(publish, range(16)))
    assert sum(outcomes) == 1
    assert [one.path for one in store.segments(job.job_id)] == [f"jobs/{outcomes.index(True)}.m4s"]
    assert store.get(job.job_id).frames_done == 10


def test_a_job_ends_once_under_concurrent_changes(store: JobStore) -> None:
    for _ in range(5):
        job = add(store, webhook_url="https://example.org")
        claim = claimed(store)
        store.plan(claim, NUM_SEGMENTS)
        for index in range(NUM_SEGMENTS):
            store.publish_segment(claim, segment(claim, index))
        ends: list[Callable[[], object]] = [
            lambda claim=claim: store.complete(claim, "video.mp4"),
            lambda claim=claim: store.release(claim),
            lambda job=job: store.cancel(job.job_id),
        ]
        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(end) for end in ends]:
                assert isinstance(done.exception(), FencedError | None)
        store.cancel(job.job_id)
        assert store.get(job.job_id).status in (JobStatus.COMPLETED, JobStatus.CANCELLED)
        (delivery,) = store.pending_deliveries()
        assert delivery.job == store.get(job.job_id)


def test_readers_are_not_blocked_by_a_writer(store: JobStore) -> None:
    job = add(store)
    with store._database.write() as connection:
        connection.execute(segments.delete())
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(store.get, job.job_id).result(timeout=10) == job


def test_writers_wait_for_each_other(store: JobStore) -> None:
    entered = threading.Event()

    def hold() -> None:
        with store._database.write() as connection:
            connection.execute(segments.delete())
            entered.set()
            time.sleep(0.5)

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(hold)
        entered.wait(10)
        assert pool.submit(add, store).result(timeout=30).status is JobStatus.QUEUED
        holding.result()


@pytest.mark.parametrize("change", ["claim", "publish", "complete", "delete"])
def test_a_process_killed_in_a_transaction_changes_nothing(
    store: JobStore, clock: Clock, url: str, change: str
) -> None:
    job = add(store, webhook_url="https://example.org")
    with process(change_and_hang, url, change, clock.now) as pipe:
        assert pipe.recv() == "in the middle"
        before = store.get(job.job_id)
    published = {"claim": 0, "publish": 1, "complete": 3, "delete": 1}[change]
    assert len(store.segments(job.job_id)) == before.next_segment == published
    assert before.status is (JobStatus.QUEUED if change == "claim" else JobStatus.IN_PROGRESS)
    clock.now += 15
    assert store.pending_deliveries() == [] and store.pending_removals() == []
    deadline = time.monotonic() + 30
    while (
        claim := store.claim("successor")
    ) is None:  # PostgreSQL skips the locked row until it notices the dead client
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert claim.job == replace(
        before,
        status=JobStatus.IN_PROGRESS,
        fence=before.fence + 1,
        attempt=before.attempt + 1,
        started_at=before.started_at or clock.now,
    )
    assert finish(store, claim).status is JobStatus.COMPLETED
    assert [one.index for one in store.segments(job.job_id)] == [0, 1, 2]
    assert len(store.pending_deliveries()) == 1


def test_the_store_reconnects_after_its_connections_were_closed(postgresql: str, postgresql_url: str) -> None:
    store = JobStore(postgresql_url)
    job = add(store)
    with psycopg.connect(host=postgresql, user=USER, dbname="postgres", autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = %s",
            [USER],
        )
    assert store.get(job.job_id) == job
    assert store.claim("worker") is not None
    store.close()
