"""A job from creation to removal, in one thread: claims, leases, fences and segments."""

from dataclasses import replace

import pytest

from emotivetalk.actors.errors import FencedError, JobNotFoundError, JobStateError, JobStoreError
from emotivetalk.actors.serving.jobs.batch_store import BatchStore
from emotivetalk.actors.serving.jobs.store import Claim, JobError, JobStatus, JobStore, Segment, new_job_id
from emotivetalk.errors import InputError
from tests.actors.serving.jobs_for_tests import NUM_SEGMENTS, SEGMENT_FRAMES, Clock, add, claimed, finish, segment


def worker_calls(store: JobStore, claim: Claim) -> list:
    """Return every call that the holder of a claim can make."""
    return [
        lambda: store.renew(claim),
        lambda: store.plan(claim, NUM_SEGMENTS),
        lambda: store.publish_segment(claim, segment(claim, claim.job.next_segment)),
        lambda: store.complete(claim, "video.mp4"),
        lambda: store.fail(claim, JobError("x", "y")),
        lambda: store.release(claim),
    ]


def assert_fenced(store: JobStore, claim: Claim) -> None:
    for call in worker_calls(store, claim):
        with pytest.raises(FencedError):
            call()


def test_a_job_from_queue_to_result(store: JobStore, clock: Clock) -> None:
    job = add(store, request={"emotion": {"kind": "text", "text": "größe \u0000 😀"}})
    assert (job.status, job.progress, job.attempt, job.created_at) == (JobStatus.QUEUED, 0, 0, clock.now)
    clock.now += 5
    claim = claimed(store, "director-1")
    assert (claim.job.status, claim.fence, claim.job.attempt, claim.worker) == ("in_progress", 1, 1, "director-1")
    assert claim.job.started_at == clock.now
    assert store.claim("director-2") is None
    assert store.plan(claim, NUM_SEGMENTS).num_segments == NUM_SEGMENTS
    for index, progress in enumerate((33, 66, 99)):
        clock.now += 1
        published = segment(claim, index)
        assert store.publish_segment(claim, published).progress == progress
        assert store.segments(job.job_id)[-1] == replace(published, published_at=clock.now)
    assert [one.index for one in store.segments(job.job_id, first=1)] == [1, 2]
    assert store.complete(claim, "jobs/x/video.mp4").progress == 100
    done = store.get(job.job_id)
    assert (done.status, done.result, done.completed_at) == (JobStatus.COMPLETED, "jobs/x/video.mp4", clock.now)
    assert done.expires_at == clock.now + store.retention_s
    assert done.request == job.request
    assert store.counts() == {status: int(status == JobStatus.COMPLETED) for status in JobStatus}
    assert_fenced(store, claim)
    assert store.claim("director-2") is None


def test_a_reopened_store_has_the_same_content(store: JobStore, url: str) -> None:
    job = add(store)
    claim = claimed(store)
    store.plan(claim, NUM_SEGMENTS)
    store.publish_segment(claim, segment(claim, 0))
    again = JobStore(url, create=False)
    assert again.get(job.job_id) == store.get(job.job_id)
    assert again.segments(job.job_id) == store.segments(job.job_id)
    again.check()
    again.close()


def test_jobs_are_claimed_by_priority_then_age(store: JobStore, clock: Clock) -> None:
    first = add(store)
    clock.now += 1
    second, urgent = add(store), add(store, priority=1)
    assert [claimed(store).job.job_id for _ in range(3)] == [urgent.job_id, first.job_id, second.job_id]


def test_when_a_lease_expires_another_worker_gets_the_job_and_the_first_is_fenced(
    store: JobStore, clock: Clock
) -> None:
    job = add(store)
    slow = claimed(store, "slow")
    store.plan(slow, NUM_SEGMENTS)
    store.publish_segment(slow, segment(slow, 0))
    clock.now += 14.9
    assert store.claim("fast") is None
    store.renew(slow)
    clock.now += 14.9
    assert store.claim("fast") is None
    clock.now += 0.1
    fast = claimed(store, "fast")
    assert (fast.fence, fast.job.attempt, fast.job.next_segment) == (2, 2, 1)
    assert_fenced(store, slow)
    assert store.get(job.job_id) == fast.job
    assert len(store.segments(job.job_id)) == 1
    assert finish(store, fast).status is JobStatus.COMPLETED


def test_a_late_worker_continues_if_the_job_was_not_claimed_again(store: JobStore, clock: Clock) -> None:
    add(store)
    claim = claimed(store)
    clock.now += 1000
    store.renew(claim)
    assert store.claim("other") is None
    assert finish(store, claim).attempt == 1


def test_publishing_renews_the_lease(store: JobStore, clock: Clock) -> None:
    add(store)
    claim = claimed(store)
    store.plan(claim, NUM_SEGMENTS)
    clock.now += 14
    store.publish_segment(claim, segment(claim, 0))
    clock.now += 14
    assert store.claim("other") is None


def test_a_job_that_kills_its_workers_fails_after_max_attempts(store: JobStore, clock: Clock) -> None:
    poison, healthy = add(store), add(store)
    for _ in range(store.max_attempts):
        assert claimed(store).job.job_id == poison.job_id
        clock.now += 15
    assert claimed(store).job.job_id == healthy.job_id
    failed = store.get(poison.job_id)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None and failed.error.code == "attempts_exhausted"


def test_attempts_that_published_a_segment_do_not_count_towards_the_limit(store: JobStore, clock: Clock) -> None:
    job = add(store)
    for index in range(NUM_SEGMENTS):
        for _ in range(store.max_attempts - 1):
            claimed(store)
            clock.now += 15
        claim = claimed(store)
        store.plan(claim, NUM_SEGMENTS)
        store.publish_segment(claim, segment(claim, index))
        clock.now += 15
    assert finish(store, claimed(store)).status is JobStatus.COMPLETED
    assert store.get(job.job_id).attempt == NUM_SEGMENTS * store.max_attempts + 1


def test_release_does_not_count_the_attempt(store: JobStore) -> None:
    add(store)
    for fence in range(1, 2 * store.max_attempts):
        claim = claimed(store)
        assert (claim.fence, claim.job.attempt) == (fence, 1)
        assert store.release(claim).status is JobStatus.QUEUED
        assert_fenced(store, claim)


def test_segments_are_published_in_order_and_once(store: JobStore) -> None:
    job = add(store)
    claim = claimed(store)
    with pytest.raises(ValueError, match="no plan"):
        store.publish_segment(claim, segment(claim, 0))
    store.plan(claim, 5)
    store.plan(claim, NUM_SEGMENTS)  # allowed, since nothing is published yet
    first = segment(claim, 0)
    store.publish_segment(claim, first)
    wrong: list[Segment] = [
        segment(claim, 2),  # a gap
        segment(claim, -1),
        segment(claim, 1, start_frame=11),
        segment(claim, 1, num_frames=21),  # past the end
        segment(claim, 1, num_frames=0),
        replace(segment(claim, 1), job_id=new_job_id()),
    ]
    for one in wrong:
        with pytest.raises(ValueError, match="does not follow"):
            store.publish_segment(claim, one)
    with pytest.raises(FencedError, match="published already"):
        store.publish_segment(claim, replace(first, path="elsewhere.m4s"))
    before = store.get(job.job_id)
    assert store.publish_segment(claim, first) == before  # repeated, as after a lost answer
    with pytest.raises(ValueError, match="3 segments"):
        store.plan(claim, 4)
    with pytest.raises(ValueError, match="10 of 30"):
        store.complete(claim, "video.mp4")
    assert [one.path for one in store.segments(job.job_id)] == [first.path]
    assert store.get(job.job_id) == before


def test_cancelling_fences_the_worker_and_is_idempotent(store: JobStore, clock: Clock) -> None:
    queued, running = add(store), add(store, priority=1)
    claim = claimed(store)
    cancelled = store.cancel(running.job_id)
    assert (cancelled.status, cancelled.completed_at) == (JobStatus.CANCELLED, clock.now)
    assert_fenced(store, claim)
    clock.now += 1
    assert store.cancel(running.job_id) == cancelled
    assert store.cancel(queued.job_id).status is JobStatus.CANCELLED
    assert store.claim("worker") is None


def test_retry_keeps_segments_and_resets_the_number_of_attempts(store: JobStore, clock: Clock) -> None:
    job = add(store)
    first = claimed(store)
    store.plan(first, NUM_SEGMENTS)
    store.publish_segment(first, segment(first, 0))
    failed = store.fail(first, JobError("render_failed", "nul \0 and a lone surrogate \ud800"))
    assert failed.error == JobError("render_failed", "nul ? and a lone surrogate ?")
    queued = store.retry(job.job_id)
    assert (queued.status, queued.error, queued.expires_at) == (JobStatus.QUEUED, None, None)
    for _ in range(store.max_attempts - 1):
        claimed(store)
        clock.now += 15
    second = claimed(store)
    assert second.job.next_segment == 1
    assert_fenced(store, first)
    finish(store, second)
    assert [one.path[-5] for one in store.segments(job.job_id)] == [
        "1",
        "4",
        "4",
    ]  # the fence of the claim that wrote each


def test_only_failed_and_cancelled_jobs_can_be_retried(store: JobStore) -> None:
    job = add(store)
    with pytest.raises(JobStateError, match="is queued"):
        store.retry(job.job_id)
    claim = claimed(store)
    with pytest.raises(JobStateError, match="is in_progress"):
        store.retry(job.job_id)
    store.cancel(job.job_id)
    assert store.retry(job.job_id).status is JobStatus.QUEUED
    assert_fenced(store, claim)
    finish(store, claimed(store))
    with pytest.raises(JobStateError, match="is completed"):
        store.retry(job.job_id)


def test_deleting_a_job_leaves_only_a_record_of_its_files(store: JobStore, clock: Clock) -> None:
    queued, running = add(store), add(store, priority=1)
    claim = claimed(store)
    store.plan(claim, NUM_SEGMENTS)
    store.publish_segment(claim, segment(claim, 0))
    for job in (queued, running):
        assert store.delete(job.job_id).status is JobStatus.CANCELLED
        for call in (store.get, store.cancel, store.retry, store.delete):
            with pytest.raises(JobNotFoundError):
                call(job.job_id)
    assert_fenced(store, claim)
    assert store.segments(running.job_id) == []
    assert store.pending_removals() == [queued.job_id]
    clock.now += 15  # until then the worker of the running job may still write files
    assert store.pending_removals() == [running.job_id]
    assert store.pending_removals() == []  # leased
    store.record_removal(queued.job_id)
    clock.now += 60
    assert store.pending_removals() == [running.job_id]  # the lease expired without a record of the removal


def test_finished_jobs_expire_with_their_files(store: JobStore, clock: Clock) -> None:
    finished, cancelled, waiting = add(store), add(store), add(store)
    finish(store, claimed(store))
    clock.now += 10
    store.cancel(cancelled.job_id)
    clock.now += store.retention_s - 10
    assert store.expire() == [finished.job_id]
    assert store.expire(clock.now + 10) == [cancelled.job_id]
    assert store.expire(clock.now + 1e9) == []
    assert store.pending_removals() == [finished.job_id, cancelled.job_id]
    assert [job.job_id for job in store.list().jobs] == [waiting.job_id]


def test_the_files_of_a_reserved_job_are_removed_unless_the_job_is_created(store: JobStore, clock: Clock) -> None:
    kept, lost = new_job_id(), new_job_id()
    for job_id in (kept, lost):
        store.reserve(job_id, hold_s=600)
    clock.now += 100
    store.reserve(lost, hold_s=600)  # reserving again extends the hold
    add(store, job_id=kept)
    clock.now += 599
    assert store.pending_removals() == []
    clock.now += 1
    assert store.pending_removals() == [lost]


def test_jobs_of_another_owner_are_not_found(store: JobStore) -> None:
    job = add(store, "ada")
    for call in (store.get, store.cancel, store.retry, store.delete):
        with pytest.raises(JobNotFoundError):
            call(job.job_id, "bob")
    assert store.get(job.job_id, "ada") == job
    assert store.counts("bob")[JobStatus.QUEUED] == 0


def test_malformed_ids_are_not_found_or_refused(store: JobStore) -> None:
    for job_id in ("", "video_\0", "../../etc", "video_\ud800", "x" * 65, "' OR 1=1 --"):
        for call in (store.get, store.cancel, store.retry, store.delete):
            with pytest.raises(JobNotFoundError):
                call(job_id)
        assert store.segments(job_id) == []
        with pytest.raises(InputError, match="after"):
            store.list(after=job_id)
        with pytest.raises(ValueError, match="invalid job"):
            add(store, job_id=job_id)


def test_a_duplicate_id_is_refused(store: JobStore) -> None:
    job = add(store)
    with pytest.raises(ValueError, match="already"):
        add(store, job_id=job.job_id)
    assert store.get(job.job_id) == job


def test_ids_sort_by_time() -> None:
    ids = [new_job_id(1_800_000_000 + 0.001 * step) for step in range(1000)]
    assert ids == sorted(ids)
    assert all(len(one) == 38 and one[18] == "7" for one in ids)
    assert len({new_job_id(1.0) for _ in range(1000)}) == 1000


def test_a_store_of_another_version_is_refused(store: JobStore, url: str) -> None:
    from emotivetalk.actors.serving.jobs import tables as job_tables

    with store.database.write() as connection:
        connection.execute(job_tables.store.update().values(schema_version=99))
    with pytest.raises(JobStoreError, match="version 99") as caught:
        JobStore(url)
    assert caught.value.code == "job_store_version"


@pytest.mark.parametrize("version", [1, 2])
def test_a_store_of_an_older_version_is_migrated(store: JobStore, url: str, version: int) -> None:
    from emotivetalk.actors.serving.jobs import tables as job_tables

    old = add(store)
    removed = ("batch_id", "remixed_from", "device_s", "work_done", *(("model", "traceparent") if version == 1 else ()))
    with store.database.write() as connection:
        for table in ("batch_rows", "batches", "files"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
        for index in ("jobs_by_batch", "segments_by_time"):
            connection.exec_driver_sql(f"DROP INDEX {index}")
        for column in removed:
            connection.exec_driver_sql(f"ALTER TABLE jobs DROP COLUMN {column}")
        connection.execute(job_tables.store.update().values(schema_version=version))
    migrated = JobStore(url, create=False)
    assert migrated.get(old.job_id) == old and old.model is None and old.batch_id is None
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    new = add(migrated, model="starter", traceparent=trace, batch_id="batch_1")
    assert JobStore(url).get(new.job_id) == new and new.batch_id == "batch_1"
    assert BatchStore(migrated).list("ada").items == []
    migrated.close()


def test_short_videos_overtake_and_long_ones_never_starve(store: JobStore, clock: Clock) -> None:
    long = add(store, num_frames=1500)  # a minute
    served = []
    for _ in range(60):  # every five seconds a short video arrives and one video can start
        clock.now += 5
        short = add(store, num_frames=50)
        claim = claimed(store)
        served.append(claim.job.job_id)
        store.release(claim)
        store.cancel(claim.job.job_id)
        if claim.job.job_id == long.job_id:
            break
        assert claim.job.job_id == short.job_id
    # It is passed for three seconds a second of video, which are three minutes less the six seconds of a short one.
    assert served[-1] == long.job_id and len(served) == 35


def test_callers_share_the_slots(store: JobStore) -> None:
    for _ in range(3):
        add(store, owner="ada")
    bob = add(store, owner="bob", num_frames=9000)
    assert claimed(store).job.owner == "ada"
    assert claimed(store).job.job_id == bob.job_id  # although it is younger and long
    assert store.claim("worker", not_of="ada") is None
    row = add(store, owner="ada", batch_id="batch_1")
    assert store.claim("worker", not_of="ada").job.job_id == row.job_id  # type: ignore[union-attr]
    assert claimed(store).job.owner == "ada"


def test_rows_of_batches_are_claimed_after_all_single_videos(store: JobStore) -> None:
    row, single = add(store, batch_id="batch_1", priority=9), add(store)
    urgent = add(store, priority=1)
    assert store.claim("worker", batches=False).job.job_id == urgent.job_id  # type: ignore[union-attr]
    assert claimed(store).job.job_id == single.job_id
    assert store.claim("worker", batches=False) is None
    assert claimed(store).job.job_id == row.job_id
    assert store.counts(single=True)[JobStatus.IN_PROGRESS] == 2 and store.counts()[JobStatus.IN_PROGRESS] == 3


def test_a_missing_store_is_created_only_if_allowed(url: str) -> None:
    with pytest.raises(JobStoreError) as caught:
        JobStore(url, create=False)
    assert caught.value.code == "job_store_missing"
    JobStore(url).close()
    JobStore(url, create=False).close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/jobs", "nonsense", ""])
def test_an_unsupported_url_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        JobStore(url)
    assert caught.value.code == "job_store_url"


def test_the_error_for_an_unreachable_store_does_not_show_its_password(tmp_path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"not a database, but long enough to look at " * 100)
    for url in (
        f"sqlite:///{tmp_path}/jobs.db",
        f"sqlite:///{tmp_path}/jobs.db/below.db",
        f"postgresql://me:secret@/jobs?host={tmp_path}",
    ):
        with pytest.raises(JobStoreError) as caught:
            JobStore(url)
        assert caught.value.code == "job_store_unavailable"
        assert "secret" not in str(caught.value)


def test_a_queued_job_knows_what_comes_before_it(store: JobStore, clock: Clock) -> None:
    running = add(store, num_frames=100)
    claim = claimed(store)
    store.plan(claim, 10)
    store.publish_segment(claim, segment(claim, 0))
    long, short = add(store, num_frames=1000), add(store, num_frames=50)
    row = add(store, num_frames=20, batch_id="batch_1")
    assert claim.job.job_id == running.job_id
    assert store.position(short) == (0, 90)
    assert store.position(long) == (1, 140)
    assert store.position(row) == (2, 1140)
    assert store.frames_per_second() == SEGMENT_FRAMES / 60
    clock.now += 61
    assert store.frames_per_second() == 0.0


def test_progress_moves_between_segments(store: JobStore) -> None:
    add(store)
    claim = claimed(store)
    store.plan(claim, 3)
    assert store.get(claim.job.job_id).progress == 0
    store.renew(claim, 0.2)
    assert store.get(claim.job.job_id).progress == 20
    store.publish_segment(claim, segment(claim, 0))
    store.renew(claim)
    assert store.get(claim.job.job_id).progress == 33
    store.renew(claim, 1.0)
    assert store.get(claim.job.job_id).progress == 99
