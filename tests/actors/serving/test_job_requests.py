"""Creation and listing of jobs: idempotency keys, limits, pages."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from emotivetalk.actors.errors import IdempotencyConflictError, OverloadError, QueueFullError, TooManyJobsError
from emotivetalk.actors.serving.jobs.store import JobStatus, JobStore, new_job_id
from emotivetalk.errors import InputError
from tests.actors.serving.jobs_for_tests import Clock, add, claimed, finish, new_job


def create(store: JobStore, owner: str = "ada", fingerprint: str = "f" * 64, **options) -> tuple[str, bool]:
    job, created = store.create(new_job(owner=owner, fingerprint=fingerprint), **options)
    return job.job_id, created


def test_a_key_identifies_one_request_of_one_owner(store: JobStore, clock: Clock) -> None:
    job_id, created = create(store, idempotency_key="k")
    assert created
    assert create(store, idempotency_key="k") == (job_id, False)
    finish(store, claimed(store))
    assert create(store, idempotency_key="k", max_queued=0, max_per_owner=0) == (job_id, False)
    with pytest.raises(IdempotencyConflictError) as caught:
        create(store, fingerprint="e" * 64, idempotency_key="k")
    assert caught.value.job_id == job_id
    for other in (partial(create, store, idempotency_key="l"), partial(create, store, "bob", idempotency_key="k")):
        assert other()[1]
    clock.now += 86400
    again = create(store, fingerprint="e" * 64, idempotency_key="k")
    assert again[1] and again[0] != job_id


def test_a_key_is_free_after_its_job_is_deleted_or_it_expires(store: JobStore, clock: Clock) -> None:
    first, _ = create(store, idempotency_key="k")
    store.delete(first)
    second, created = create(store, idempotency_key="k", idempotency_s=60)
    assert created
    clock.now += 60
    store.expire()
    assert create(store, idempotency_key="k")[1]
    assert store.get(second).status is JobStatus.QUEUED


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "nul\0", "ümlaut", "line\n"])
def test_an_invalid_key_is_refused(sqlite_url: str, key: str) -> None:
    with pytest.raises(InputError) as caught:
        create(JobStore(sqlite_url), idempotency_key=key)
    assert caught.value.code == "idempotency_key_invalid"


def test_concurrent_requests_with_one_key_create_one_job(store: JobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: create(store, idempotency_key="k"), range(24)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    assert store.counts()[JobStatus.QUEUED] == 1


@pytest.mark.parametrize(("limit", "error"), [("max_queued", QueueFullError), ("max_per_owner", TooManyJobsError)])
def test_limits_hold_under_concurrent_requests(store: JobStore, limit: str, error: type[OverloadError]) -> None:
    def attempt(_: int) -> bool:
        try:
            return create(store, **{limit: 5})[1]
        except error as refused:
            return refused.retry_after_s <= 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(20))) == 5
    assert store.counts()[JobStatus.QUEUED] == 5


def test_queued_and_running_jobs_count_towards_the_right_limits(store: JobStore) -> None:
    add(store, "ada")
    claimed(store)
    create(store, "ada", max_queued=1, max_per_owner=2)  # a running job is not queued
    with pytest.raises(QueueFullError):
        create(store, "bob", max_queued=1)  # max_queued counts the jobs of all owners
    with pytest.raises(TooManyJobsError):
        create(store, "ada", max_per_owner=2)  # max_per_owner counts running jobs
    create(store, "bob", max_per_owner=1)
    store.cancel(store.list("bob").jobs[0].job_id)
    create(store, "bob", max_per_owner=1)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_neither_repeat_nor_skip_jobs_while_others_are_added_and_deleted(store: JobStore, order) -> None:
    ids = [new_job_id(1000 + index) for index in range(10)]
    for job_id in ids:
        add(store, job_id=job_id)
    add(store, "bob", job_id=new_job_id(1000.5))
    expected = ids if order == "asc" else ids[::-1]
    ids_listed: list[str] = []
    has_more = True
    while has_more:
        page = store.list("ada", limit=3, after=ids_listed[-1] if ids_listed else None, order=order)
        ids_listed += [job.job_id for job in page.jobs]
        has_more = page.has_more
        # Add a job in the part already listed, and delete the one that the next page starts after.
        add(store, job_id=new_job_id(500 if order == "asc" else 5000))
        store.delete(ids_listed[-1])
    assert ids_listed == expected


def test_pages_by_status_and_owner(store: JobStore) -> None:
    jobs = [add(store, owner) for owner in ("ada", "bob", "ada")]
    store.cancel(jobs[0].job_id)
    assert store.list("ada", status=JobStatus.CANCELLED).jobs == [store.get(jobs[0].job_id)]
    assert len(store.list().jobs) == 3 and not store.list(limit=3).has_more
    assert store.list(limit=2).has_more
    assert store.list("eve").jobs == []
    assert store.counts("ada")[JobStatus.QUEUED] == 1
    with pytest.raises(ValueError, match="limit"):
        store.list(limit=0)
