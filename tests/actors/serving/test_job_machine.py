"""Random sequences of operations on jobs: the store agrees with a model in plain Python."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from emotivetalk.actors.errors import FencedError, JobNotFoundError, JobStateError
from emotivetalk.actors.serving.jobs.store import Claim, JobError, JobStatus, JobStore
from tests.actors.serving.jobs_for_tests import NUM_SEGMENTS, Clock, add, segment

LEASE_S = 15
MAX_ATTEMPTS = 2


@dataclass
class Model:
    created: int
    status: JobStatus = JobStatus.QUEUED
    fence: int = 0
    lease_until: float = 0.0
    idle_attempts: int = 0  # consecutive attempts that published no segment
    paths: list[str] = field(default_factory=list)


class Jobs(RuleBasedStateMachine):
    """The operations. A subclass sets `url`; each run removes its jobs from the store."""

    url: str
    claims: Bundle[Claim | None] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = JobStore(self.url, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS, clock=self.clock)
        self.model: dict[str, Model] = {}
        self.num_created = 0
        self.num_ended = 0

    def end(self, job_id: str, status: JobStatus) -> None:
        self.model[job_id].status = status
        self.model[job_id].lease_until = 0.0
        self.num_ended += 1

    def holds(self, claim: Claim) -> Model | None:
        expected_job = self.model.get(claim.job.job_id)
        return (
            expected_job
            if expected_job and expected_job.status is JobStatus.IN_PROGRESS and expected_job.fence == claim.fence
            else None
        )

    @precondition(lambda self: len(self.model) < 3)
    @rule()
    def create(self) -> None:
        self.clock.now += 1
        self.num_created += 1
        job = add(self.store, webhook_url="https://example.org")
        self.model[job.job_id] = Model(self.num_created)

    @rule(target=claims, after_s=st.sampled_from([0, 1, LEASE_S]))
    def claim(self, after_s: int) -> Claim | None:
        self.clock.now += after_s
        claim = self.store.claim("worker")
        expected = None
        for job_id, expected_job in sorted(self.model.items(), key=lambda item: item[1].created):
            if expected_job.status.is_terminal or expected_job.lease_until > self.clock.now:
                continue
            if expected_job.idle_attempts < MAX_ATTEMPTS:
                expected = job_id
                break
            self.end(job_id, JobStatus.FAILED)
        assert (claim and claim.job.job_id) == expected
        if claim is not None:
            expected_job = self.model[claim.job.job_id]
            expected_job.status, expected_job.lease_until = JobStatus.IN_PROGRESS, self.clock.now + LEASE_S
            expected_job.fence += 1
            expected_job.idle_attempts += 1
            assert claim.fence == expected_job.fence
            self.store.plan(claim, NUM_SEGMENTS)
        return claim

    @rule(claim=claims, work=st.sampled_from(["renew", "publish", "complete", "fail", "release"]))
    def work(self, claim: Claim | None, work: str) -> None:
        if claim is None:
            return
        expected_job = self.holds(claim)
        index = len(expected_job.paths) if expected_job else 0
        calls = {
            "renew": lambda: self.store.renew(claim),
            "publish": lambda: self.store.publish_segment(claim, segment(claim, index)),
            "complete": lambda: self.store.complete(claim, "video.mp4"),
            "fail": lambda: self.store.fail(claim, JobError("x", "y")),
            "release": lambda: self.store.release(claim),
        }
        too_early = work == "complete" and index < NUM_SEGMENTS
        too_late = work == "publish" and index == NUM_SEGMENTS
        if expected_job is None or too_early or too_late:
            with pytest.raises(FencedError if expected_job is None else ValueError):
                calls[work]()
            return
        calls[work]()
        if work in ("renew", "publish"):
            expected_job.lease_until = self.clock.now + LEASE_S
        match work:
            case "publish":
                expected_job.paths.append(segment(claim, index).path)
                expected_job.idle_attempts = 0
            case "complete":
                self.end(claim.job.job_id, JobStatus.COMPLETED)
            case "fail":
                self.end(claim.job.job_id, JobStatus.FAILED)
            case "release":
                expected_job.status, expected_job.lease_until = JobStatus.QUEUED, 0.0
                expected_job.idle_attempts = max(0, expected_job.idle_attempts - 1)

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data(), operation=st.sampled_from(["cancel", "retry", "delete"]))
    def change(self, data: st.DataObject, operation: str) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.model)))
        expected_job = self.model[job_id]
        try:
            getattr(self.store, operation)(job_id)
        except JobStateError:
            assert operation == "retry" and expected_job.status not in (JobStatus.FAILED, JobStatus.CANCELLED)
            return
        if operation == "retry":
            assert expected_job.status in (JobStatus.FAILED, JobStatus.CANCELLED)
            expected_job.status, expected_job.idle_attempts = JobStatus.QUEUED, 0
        elif not expected_job.status.is_terminal:
            self.end(job_id, JobStatus.CANCELLED)
        if operation == "delete":
            del self.model[job_id]
            with pytest.raises(JobNotFoundError):
                self.store.get(job_id)

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        found = {job.job_id: (job.status, job.fence, job.next_segment) for job in self.store.list(limit=10).jobs}
        assert found == {
            job_id: (expected_job.status, expected_job.fence, len(expected_job.paths))
            for job_id, expected_job in self.model.items()
        }

    def teardown(self) -> None:
        for job_id, expected_job in self.model.items():
            assert [one.path for one in self.store.segments(job_id)] == expected_job.paths
        deliveries = self.store.pending_deliveries(1000)
        assert len(deliveries) == self.num_ended
        for job_id in self.model:
            self.store.delete(job_id)
        for delivery in deliveries + self.store.pending_deliveries():
            self.store.record_delivery(delivery)
        self.store.close()


def test_the_store_agrees_with_the_model(url: str) -> None:
    machine = type("JobsOfUrl", (Jobs,), {"url": url})
    limits = settings(max_examples=8, stateful_step_count=25, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(machine, settings=limits)
