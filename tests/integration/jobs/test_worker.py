"""The worker process: runs, reports, cancels, fails, drains."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.errors import Code, Reason
from palimpsest.settings import Settings
from tests.integration.jobs.harness import SHORT, Bench
from tests.waiting import until


@pytest.fixture(scope="module")
def shared_bench(valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One worker for all tests that leave it alive."""
    folder: Path = tmp_path_factory.mktemp("jobs")
    settings = Settings(
        state_dir=folder / "state",
        redis_url=valkey.url,
        redis_prefix="worker-tests:",
    ).model_copy(update=SHORT)
    bench = Bench(settings, folder)
    bench.worker()
    yield bench
    bench.close()


def test_a_job_runs_once_and_its_result_is_kept(shared_bench: Bench):
    job_id = shared_bench.submit("echo", text="hello")
    shared_bench.until_state(job_id, "SUCCEEDED")
    record = shared_bench.store.get(job_id)
    assert record.response_message()["text"] == "hello"  # type: ignore[index]
    assert (record.attempt, record.stage, record.metadata().fraction) == (1, "echoing", 1.0)
    assert shared_bench.runs(job_id) == ["ran"]


def test_progress_is_seen_while_the_job_runs(shared_bench: Bench):
    job_id = shared_bench.submit("gate")
    until(lambda: shared_bench.store.get(job_id).stage == "waiting")
    record = shared_bench.store.get(job_id)
    assert record.state == "RUNNING"
    assert record.total == 100
    shared_bench.folder.joinpath(f"{job_id}.gate").touch()
    shared_bench.until_state(job_id, "SUCCEEDED")


def test_a_running_job_is_cancelled_at_its_next_check(shared_bench: Bench):
    job_id = shared_bench.submit("gate")
    shared_bench.until_state(job_id, "RUNNING")
    assert shared_bench.store.cancel(job_id).cancel_requested
    shared_bench.until_state(job_id, "CANCELLED", timeout=10)
    error = shared_bench.store.get(job_id).error
    assert error is not None
    assert (error.code, error.reason) == (Code.CANCELLED, Reason.JOB_CANCELLED)


def test_a_queued_job_is_cancelled_at_once(shared_bench: Bench):
    blocker = shared_bench.submit("gate")
    shared_bench.until_state(blocker, "RUNNING")
    job_id = shared_bench.submit("echo", text="never")
    assert shared_bench.store.cancel(job_id).state == "CANCELLED"
    shared_bench.folder.joinpath(f"{blocker}.gate").touch()
    shared_bench.until_state(blocker, "SUCCEEDED")
    after = shared_bench.submit("echo", text="after")  # behind the cancelled job's message in the queue
    shared_bench.until_state(after, "SUCCEEDED")
    assert shared_bench.runs(job_id) == []


def test_a_job_that_ignores_cancellation_is_ended_with_its_process(shared_bench: Bench):
    job_id = shared_bench.submit("stubborn")
    shared_bench.until_state(job_id, "RUNNING")
    shared_bench.store.cancel(job_id)
    shared_bench.until_state(job_id, "CANCELLED", timeout=10)
    after = shared_bench.submit("echo", text="a new child")
    shared_bench.until_state(after, "SUCCEEDED")
    assert shared_bench.runs(job_id) == ["started"]


def test_an_overdue_job_fails_and_its_process_is_ended(shared_bench: Bench):
    job_id = shared_bench.submit("stubborn", execution_timeout=0.5)
    shared_bench.until_state(job_id, "FAILED")
    error = shared_bench.store.get(job_id).error
    assert error is not None
    assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, Reason.EXECUTION_TIMEOUT)
    after = shared_bench.submit("echo", text="a new child")
    shared_bench.until_state(after, "SUCCEEDED")


def test_every_kind_has_a_time_limit_of_its_own(bench: Bench):
    """A handler that checks is ended by it, one that does not with its process; the worker goes on."""
    bench.worker(PALIMPSEST_JOB_SECONDS="test.gate=0.5,test.stubborn=0.5,test.swallow=0.5")
    for verb in ("gate", "swallow", "stubborn"):
        job_id = bench.submit(verb)
        bench.until_state(job_id, "FAILED")
        error = bench.store.get(job_id).error
        assert error is not None
        assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, Reason.EXECUTION_TIMEOUT)
        assert error.metadata == {"kind": f"test.{verb}", "seconds": "0.5"}
        assert f"PALIMPSEST_JOB_SECONDS=test.{verb}=" in error.message
    after = bench.submit("echo", text="the worker goes on")
    bench.until_state(after, "SUCCEEDED")


def test_an_interruption_that_was_swallowed_still_counts(shared_bench: Bench):
    job_id = shared_bench.submit("swallow")
    shared_bench.until_state(job_id, "RUNNING")
    shared_bench.store.cancel(job_id)
    shared_bench.until_state(job_id, "CANCELLED", "SUCCEEDED")
    assert shared_bench.store.get(job_id).state == "CANCELLED"


def test_a_domain_error_is_the_jobs_error(shared_bench: Bench):
    job_id = shared_bench.submit("refuse")
    shared_bench.until_state(job_id, "FAILED")
    error = shared_bench.store.get(job_id).error
    assert error is not None
    assert (error.code, error.reason, error.metadata) == (Code.NOT_FOUND, "MODEL_NOT_FOUND", {"model": "x"})


def test_an_unexpected_error_is_internal_and_shows_nothing(shared_bench: Bench):
    job_id = shared_bench.submit("bug")
    shared_bench.until_state(job_id, "FAILED")
    record = shared_bench.store.get(job_id)
    assert record.error is not None
    assert (record.error.code, record.error.reason) == (Code.INTERNAL, Reason.BUG)
    assert "secret" not in str(record.operation())
    assert "secret detail" in shared_bench.workers[0].log.read_text()


def test_a_kind_without_code_fails_with_its_reason(shared_bench: Bench):
    job_id = shared_bench.submit("unheard_of")
    shared_bench.until_state(job_id, "FAILED")
    error = shared_bench.store.get(job_id).error
    assert error is not None
    assert error.reason == Reason.JOB_KIND_UNKNOWN


def test_a_poison_job_is_given_up_and_dead_lettered(shared_bench: Bench):
    job_id = shared_bench.submit("poison", max_attempts=2)
    shared_bench.until_state(job_id, "FAILED")
    record = shared_bench.store.get(job_id)
    assert record.error is not None
    assert record.error.reason == Reason.ATTEMPTS_EXHAUSTED
    assert shared_bench.runs(job_id) == ["started", "started"]
    assert shared_bench.redis.zscore(f"{shared_bench.store.prefix}jobs:dead", job_id) is not None


def test_sigterm_drains_and_the_next_worker_resumes(bench: Bench):
    worker = bench.worker()
    job_id = bench.submit("resume")
    bench.until_state(job_id, "RUNNING")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(15) == 0, worker.log.read_text()
    assert bench.store.get(job_id).attempt == 0
    assert bench.store.get(job_id).state == "QUEUED"
    bench.worker()
    bench.until_state(job_id, "SUCCEEDED")
    record = bench.store.get(job_id)
    assert record.response_message()["step"] == 7  # type: ignore[index]
    assert record.attempt == 1
    assert bench.runs(job_id) == ["started", "drained", "resumed"]


def test_a_drain_that_is_ignored_costs_no_attempt(bench: Bench):
    worker = bench.worker()
    job_id = bench.submit("stubborn")
    bench.until_state(job_id, "RUNNING")
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(20)
    bench.until_state(job_id, "QUEUED")
    assert bench.store.get(job_id).attempt == 0
