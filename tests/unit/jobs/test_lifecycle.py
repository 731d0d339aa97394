"""Any history of submissions, deliveries, crashes, expiries and repeats keeps the promises."""

import uuid
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import FailedPrecondition, NotFound, Reason
from palimpsest.jobs import JobStore
from palimpsest.jobs.record import STATES, TERMINAL, JobRecord
from palimpsest.jobs.replies import Claim
from palimpsest.settings import Settings
from tests.unit.jobs.harness import Clock, echo

PRINCIPALS = ["ann", "bob"]
DIGESTS = ["sha256:" + letter * 64 for letter in "abc"]


class Lifecycle(RuleBasedStateMachine):
    """Callers, workers that die silently, a sweep and a clock, against one real server."""

    client: redis.Redis

    jobs = Bundle("jobs")
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        config = Settings(redis_prefix=f"machine-{uuid.uuid4().hex[:8]}:", job_max_attempts=2)
        self.store = JobStore(self.client, config, clock=self.clock)
        self.seen: dict[str, JobRecord] = {}
        self.retried: set[str] = set()
        self.finished: dict[str, int] = {}  # accepted finishes since the last retry
        self.ended: dict[str, set[str]] = {}  # runs whose finish was accepted
        self.owners = 0

    @rule(
        target=jobs,
        request_id=st.sampled_from(["", "", "r1"]),
        action=st.sampled_from([None, None, {"a": 1}]),
        skip=st.booleans(),
        inputs=st.lists(st.sampled_from(DIGESTS), max_size=2),
        timeout=st.sampled_from([None, 20.0]),
        principal=st.sampled_from(PRINCIPALS),
    )
    def submit(
        self,
        request_id: str,
        action: Any,
        skip: bool,
        inputs: list[str],
        timeout: float | None,
        principal: str,
    ) -> Any:
        spec = echo(
            request_id=request_id,
            action=action,
            skip_cache=skip,
            inputs=inputs,
            execution_timeout=timeout,
            principal=principal,
        )
        record = self.store.submit(spec)
        assert record.principal == principal, "a job was shared with another caller"
        if record.id in self.seen:
            return multiple()
        return record.id

    @rule(target=runs, job=jobs)
    def deliver(self, job: str) -> Any:
        """A hint arrives, whether the first or a stale copy."""
        self.owners += 1
        record = self.store.claim(job, f"run-{self.owners}", "worker")
        if record is None:
            return multiple()
        before = self.seen.get(job)
        assert before is not None
        assert before.state == "QUEUED" or before.lease_ms <= self.clock.now, "two runs hold one lease"
        return Claim(record.id, record.attempt, record.owner, record.worker)

    @rule(run=runs)
    def beat(self, run: Claim) -> None:
        beat = self.store.heartbeat(run, {"done": self.clock.now % 97})
        assert beat.lost == (not self.holds(run))

    @rule(run=runs, digest=st.sampled_from(DIGESTS))
    def work(self, run: Claim, digest: str) -> None:
        holds = self.holds(run)
        assert self.store.checkpoint(run, {"x": 1}) == holds
        assert self.store.publish(run, digest) == holds

    @rule(run=runs, fails=st.booleans())
    def finish(self, run: Claim, fails: bool) -> None:
        holds = self.holds(run)
        if fails:
            accepted = self.store.fail(run, NotFound(Reason.MODEL_NOT_FOUND, "gone"))
        else:
            accepted = self.store.succeed(run, "google.protobuf.StringValue", '"x"', {})
        if holds:
            assert accepted
            self.finished[run.job_id] = self.finished.get(run.job_id, 0) + 1
            self.ended.setdefault(run.job_id, set()).add(run.owner)
        elif accepted:  # only the same run may hear again what it was told
            assert run.owner in self.ended.get(run.job_id, set())

    @rule(run=runs)
    def release(self, run: Claim) -> None:
        holds = self.holds(run)
        assert self.store.release(run) == holds
        if holds and self.store.get(run.job_id).state == "QUEUED":
            assert self.store.get(run.job_id).attempt == run.attempt - 1

    @rule(target=runs, run=runs)
    def fall_silent(self, run: Claim) -> Any:
        """The worker freezes past its lease, and another gets the job; the old run may still wake up."""
        held = self.holds(run)
        self.clock.advance(self.store.settings.lease_seconds + 1)
        self.store.sweep()
        if held:
            assert not self.holds(run)
        self.promises()
        return self.deliver(run.job_id) if self.exists(run.job_id) else multiple()

    @rule(run=consumes(runs))
    def die(self, run: Claim) -> None:
        """The worker is gone: nothing is ever heard of this run again."""

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        if self.exists(job):
            self.store.cancel(job)

    @rule(job=jobs, request_id=st.sampled_from(["", "again"]))
    def retry(self, job: str, request_id: str) -> None:
        try:
            record = self.store.retry(job, f"{job}{request_id}" if request_id else "")
        except (FailedPrecondition, NotFound):
            return
        assert request_id or self.seen[job].state in ("FAILED", "CANCELLED")
        if record.state == "QUEUED" and self.seen[job].state in TERMINAL:
            self.retried.add(job)
            self.finished[job] = 0

    @rule(job=jobs)
    def delete(self, job: str) -> None:
        if not self.exists(job):
            return
        if self.store.get(job).terminal:
            self.store.delete(job)
        else:
            with pytest.raises(FailedPrecondition):
                self.store.delete(job)

    @rule(seconds=st.sampled_from([1.0, 6.0, 16.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        for job, _ in self.store.sweep().hints:
            assert self.store.get(job).state == "QUEUED"

    @rule(chance=st.integers(0, 4))
    def forget(self, chance: int) -> None:
        """A long time passes."""
        if chance:
            return
        self.clock.advance(self.store.settings.job_retention_seconds + 1)
        self.store.sweep()

    def exists(self, job: str) -> bool:
        return bool(self.client.exists(f"{self.store.prefix}job:{job}"))

    def holds(self, run: Claim) -> bool:
        if not self.exists(run.job_id):
            return False
        record = self.store.get(run.job_id)
        return (record.state, record.owner, record.attempt) == ("RUNNING", run.owner, run.attempt)

    @invariant()
    def promises(self) -> None:
        now = {record.id: record for record in self.store.list(page_size=1000).records}
        for job, record in now.items():
            before = self.seen.get(job)
            if before is not None:
                assert record.revision >= before.revision
                if record.revision == before.revision:
                    assert record.state == before.state
                if before.state in TERMINAL and record.state != before.state:
                    assert job in self.retried
            assert record.attempt <= record.max_attempts
            assert self.finished.get(job, 0) <= 1
            assert record.terminal == bool(record.end_ms)
            assert (record.state in ("FAILED", "CANCELLED")) == (record.error is not None)
        self.retried.clear()
        self.seen = now
        self.indexes_agree(now)

    def indexes_agree(self, now: dict[str, JobRecord]) -> None:
        """What the sweep, lists and garbage collection go by says what the records say."""
        prefix = self.store.prefix
        with self.client.pipeline(transaction=False) as pipe:
            for index in ("leases", "hints", "expiry"):
                pipe.zrange(f"{prefix}jobs:{index}", 0, -1, withscores=True)
            for state in STATES:
                pipe.zrange(f"{prefix}jobs:index:{state}", 0, -1)
                pipe.zrange(f"{prefix}jobs:index:kind:test.echo:{state}", 0, -1)
            for principal in PRINCIPALS:
                pipe.zrange(f"{prefix}jobs:index:principal:3:{principal}", 0, -1)
                pipe.zrange(f"{prefix}jobs:index:principal:3:{principal}:QUEUED", 0, -1)
            for digest in DIGESTS:
                pipe.smembers(f"{prefix}refs:{digest}")
            for job in now:
                pipe.smembers(f"{prefix}owned:job/{job}")
            leases, hints, expiry, *rest = pipe.execute()
        running = {job: record.lease_ms for job, record in now.items() if record.state == "RUNNING"}
        assert {job.decode(): score for job, score in leases} == running
        assert {job.decode() for job, _ in hints} == {j for j, r in now.items() if r.state == "QUEUED"}
        assert {job.decode(): score for job, score in expiry} == {
            job: record.expire_ms for job, record in now.items() if record.terminal
        }
        for n, state in enumerate(STATES):
            expected = {job.encode() for job, record in now.items() if record.state == state}
            assert set(rest[2 * n]) == set(rest[2 * n + 1]) == expected
        for n, principal in enumerate(PRINCIPALS):
            theirs = {
                job.encode(): record.state for job, record in now.items() if record.principal == principal
            }
            assert set(rest[10 + 2 * n]) == set(theirs)
            assert set(rest[11 + 2 * n]) == {job for job, state in theirs.items() if state == "QUEUED"}
        references = {
            (owner.decode(), digest)
            for digest, owners in zip(DIGESTS, rest[14:17], strict=True)
            for owner in owners
        }
        owned = {
            (f"job/{job}", digest.decode())
            for job, digests in zip(now, rest[17:], strict=True)
            for digest in digests
        }
        assert references == owned


def test_every_history_keeps_the_promises(tmp_path_factory: pytest.TempPathFactory):
    # Its own server without an append-only file: thousands of submissions need not wait for a disk.
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"), extra=["appendonly no"]).start()
    try:
        with redis.Redis.from_url(server.url) as client:
            Lifecycle.client = client
            run_state_machine_as_test(
                Lifecycle,
                settings=settings(
                    max_examples=100,
                    stateful_step_count=50,
                    deadline=None,
                    derandomize=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
    finally:
        server.stop()
