"""The outbox of webhooks: a delivery is recorded when a job ends, and made at least once."""

from collections.abc import Callable

import pytest

from emotivetalk.actors.serving.jobs.deliveries import DELIVERY_LEASE_S, MAX_DELIVERY_ATTEMPTS, delay_after
from emotivetalk.actors.serving.jobs.store import JobError, JobStore
from tests.actors.serving.jobs_for_tests import Clock, add, claimed, finish

HOOK = "https://example.org/hook"
ENDS: dict[str, Callable[[JobStore], object]] = {
    "video.completed": lambda store: finish(store, claimed(store)),
    "video.failed": lambda store: store.fail(claimed(store), JobError("render_failed", "nul \0")),
    "video.cancelled": lambda store: store.cancel(store.list().jobs[0].job_id),
}


def test_every_end_of_a_job_with_a_webhook_has_one_delivery(store: JobStore) -> None:
    for event, end in ENDS.items():
        add(store)
        end(store)
        assert store.pending_deliveries() == []
        job = add(store, webhook_url=HOOK)
        assert store.pending_deliveries() == []
        end(store)
        (delivery,) = store.pending_deliveries()
        assert (delivery.event, delivery.url, delivery.attempt) == (event, HOOK, 1)
        assert delivery.job == store.get(job.job_id)
        store.record_delivery(delivery)
    assert store.pending_deliveries() == []


def test_the_delivery_for_a_deleted_job_has_its_last_state(store: JobStore) -> None:
    job = add(store, webhook_url=HOOK)
    last = store.delete(job.job_id)
    (delivery,) = store.pending_deliveries()
    assert (delivery.event, delivery.job) == ("video.cancelled", last)


def test_a_retried_job_has_a_delivery_for_each_end(store: JobStore, clock: Clock) -> None:
    job = add(store, webhook_url=HOOK)
    store.cancel(job.job_id)
    store.cancel(job.job_id)
    store.retry(job.job_id)
    clock.now += 1
    finish(store, claimed(store))
    deliveries = store.pending_deliveries()
    assert [delivery.event for delivery in deliveries] == ["video.cancelled", "video.completed"]
    assert len({delivery.delivery_id for delivery in deliveries}) == 2


def test_failed_deliveries_are_retried_with_growing_delays_under_one_id(store: JobStore, clock: Clock) -> None:
    store.cancel(add(store, webhook_url=HOOK).job_id)
    ids, waits = set(), []
    for attempt in range(1, MAX_DELIVERY_ATTEMPTS + 1):
        (delivery,) = store.pending_deliveries()
        assert delivery.attempt == attempt
        ids.add(delivery.delivery_id)
        store.record_delivery(delivery, error="503 \ud800")
        waits.append(delay_after(attempt))
        clock.now += waits[-1] - 0.5
        assert store.pending_deliveries() == []
        clock.now += 0.5
    assert store.pending_deliveries() == []  # no attempts are left
    assert len(ids) == 1
    assert waits[:3] == [5, 20, 80] and waits == sorted(waits)


def test_deliveries_of_a_dead_sender_are_taken_over(store: JobStore, clock: Clock) -> None:
    for _ in range(3):
        store.cancel(add(store, webhook_url=HOOK).job_id)
        clock.now += 1
    mine, others = store.pending_deliveries(2), store.pending_deliveries(2)
    assert [len(mine), len(others)] == [2, 1]
    for delivery in others:
        store.record_delivery(delivery)
    store.record_delivery(mine[0])
    clock.now += DELIVERY_LEASE_S
    (again,) = store.pending_deliveries()
    assert (again.delivery_id, again.attempt) == (mine[1].delivery_id, 2)
    store.record_delivery(mine[1], error="timeout")  # the first sender is late: the second holds the delivery now
    assert store.pending_deliveries() == []
    store.record_delivery(again)
    clock.now += 86400
    assert store.pending_deliveries() == []


@pytest.mark.parametrize("error", [None, "410"])
def test_ended_deliveries_are_deleted_when_jobs_expire(store: JobStore, clock: Clock, error: str | None) -> None:
    from emotivetalk.actors.serving.jobs.tables import deliveries

    store.cancel(add(store, webhook_url=HOOK).job_id)
    for _ in range(MAX_DELIVERY_ATTEMPTS):
        for delivery in store.pending_deliveries():
            store.record_delivery(delivery, error=error)
        clock.now += 6 * 3600
    clock.now += store.retention_s
    store.expire()
    with store._database.read() as connection:
        assert connection.execute(deliveries.select()).all() == []
