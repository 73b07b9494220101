"""Any sequence of what anybody can do to jobs, against a model in plain Python: the store does the same."""

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
    idle_attempts: int = 0  # without a published segment
    paths: list[str] = field(default_factory=list)


class Jobs(RuleBasedStateMachine):
    """`url` is set in a subclass; each run removes its jobs from the store."""

    url: str
    claims: Bundle[Claim | None] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = JobStore(self.url, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS, clock=self.clock)
        self.model: dict[str, Model] = {}
        self.num_created = 0
        self.ends = 0

    def end(self, job_id: str, status: JobStatus) -> None:
        self.model[job_id].status = status
        self.model[job_id].lease_until = 0.0
        self.ends += 1

    def holds(self, claim: Claim) -> Model | None:
        known = self.model.get(claim.job.job_id)
        return known if known and known.status is JobStatus.IN_PROGRESS and known.fence == claim.fence else None

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
        for job_id, known in sorted(self.model.items(), key=lambda item: item[1].created):
            if known.status.is_terminal or known.lease_until > self.clock.now:
                continue
            if known.idle_attempts < MAX_ATTEMPTS:
                expected = job_id
                break
            self.end(job_id, JobStatus.FAILED)
        assert (claim and claim.job.job_id) == expected
        if claim is not None:
            known = self.model[claim.job.job_id]
            known.status, known.lease_until = JobStatus.IN_PROGRESS, self.clock.now + LEASE_S
            known.fence += 1
            known.idle_attempts += 1
            assert claim.fence == known.fence
            self.store.plan(claim, NUM_SEGMENTS)
        return claim

    @rule(claim=claims, work=st.sampled_from(["renew", "publish", "complete", "fail", "release"]))
    def work(self, claim: Claim | None, work: str) -> None:
        if claim is None:
            return
        known = self.holds(claim)
        index = len(known.paths) if known else 0
        calls = {
            "renew": lambda: self.store.renew(claim),
            "publish": lambda: self.store.publish_segment(claim, segment(claim, index)),
            "complete": lambda: self.store.complete(claim, "video.mp4"),
            "fail": lambda: self.store.fail(claim, JobError("x", "y")),
            "release": lambda: self.store.release(claim),
        }
        too_early = work == "complete" and index < NUM_SEGMENTS
        too_late = work == "publish" and index == NUM_SEGMENTS
        if known is None or too_early or too_late:
            with pytest.raises(FencedError if known is None else ValueError):
                calls[work]()
            return
        calls[work]()
        if work in ("renew", "publish"):
            known.lease_until = self.clock.now + LEASE_S
        match work:
            case "publish":
                known.paths.append(segment(claim, index).path)
                known.idle_attempts = 0
            case "complete":
                self.end(claim.job.job_id, JobStatus.COMPLETED)
            case "fail":
                self.end(claim.job.job_id, JobStatus.FAILED)
            case "release":
                known.status, known.lease_until = JobStatus.QUEUED, 0.0
                known.idle_attempts = max(0, known.idle_attempts - 1)

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data(), what=st.sampled_from(["cancel", "retry", "delete"]))
    def ask(self, data: st.DataObject, what: str) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.model)))
        known = self.model[job_id]
        try:
            getattr(self.store, what)(job_id)
        except JobStateError:
            assert what == "retry" and known.status not in (JobStatus.FAILED, JobStatus.CANCELLED)
            return
        if what == "retry":
            assert known.status in (JobStatus.FAILED, JobStatus.CANCELLED)
            known.status, known.idle_attempts = JobStatus.QUEUED, 0
        elif not known.status.is_terminal:
            self.end(job_id, JobStatus.CANCELLED)
        if what == "delete":
            del self.model[job_id]
            with pytest.raises(JobNotFoundError):
                self.store.get(job_id)

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        found = {job.job_id: (job.status, job.fence, job.next_segment) for job in self.store.list(limit=10).jobs}
        assert found == {job_id: (known.status, known.fence, len(known.paths)) for job_id, known in self.model.items()}

    def teardown(self) -> None:
        for job_id, known in self.model.items():
            assert [one.path for one in self.store.segments(job_id)] == known.paths
        told = self.store.pending_deliveries(1000)
        assert len(told) == self.ends
        for job_id in self.model:
            self.store.delete(job_id)
        for delivery in told + self.store.pending_deliveries():
            self.store.record_delivery(delivery)
        self.store.close()


def test_the_store_does_what_the_model_does(url: str) -> None:
    machine = type("JobsHere", (Jobs,), {"url": url})
    limits = settings(max_examples=8, stateful_step_count=25, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(machine, settings=limits)
