"""Promises of the job system, kept while processes are killed, frozen and starved.

PALIMPSEST_CHAOS_TRIALS sets how often each is tried (1).
"""

import os
import signal
import time
from pathlib import Path

import pytest

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import PalimpsestError, Reason, ResourceExhausted
from palimpsest.settings import Settings
from tests.chaos.conftest import Within
from tests.integration.jobs.harness import SHORT, Bench
from tests.waiting import until

TRIALS = int(os.environ.get("PALIMPSEST_CHAOS_TRIALS", "1"))
pytestmark = [pytest.mark.chaos, pytest.mark.parametrize("trial", range(TRIALS))]


def open_gate(bench: Bench, job_id: str) -> None:
    bench.folder.joinpath(f"{job_id}.gate").touch()


def result_of(bench: Bench, job_id: str) -> dict[str, object]:
    bench.until_state(job_id, "SUCCEEDED", "FAILED", "CANCELLED")
    return dict(bench.store.get(job_id).response_message())  # type: ignore[call-overload]


def started(bench: Bench, job_id: str, times: int) -> None:
    until(lambda: bench.runs(job_id).count("started") >= times, 40)


def child_running(bench: Bench, pid_of_worker: int) -> int:
    """The pool child: a child of the worker that is not a helper of multiprocessing."""
    worker = next(w for w in bench.workers if w.process.pid == pid_of_worker)
    return max(worker.children(), key=lambda p: p.memory_info().rss).pid


def runs_again(bench: Bench, within: Within, job_id: str, since: float) -> None:
    within("runs again", 40, lambda: bench.runs(job_id).count("started") >= 2, since)


def test_a_killed_child_costs_an_attempt_and_nothing_else(bench: Bench, within: Within, trial: int):
    worker = bench.worker()
    job_id = bench.submit("gate")
    started(bench, job_id, 1)
    os.kill(child_running(bench, worker.process.pid), signal.SIGKILL)
    runs_again(bench, within, job_id, time.monotonic())
    open_gate(bench, job_id)
    assert result_of(bench, job_id)["attempt"] == 2
    assert bench.runs(job_id) == ["started", "started"]


def test_a_killed_worker_takes_its_children_along_and_the_next_one_takes_over(
    bench: Bench, within: Within, trial: int
):
    worker = bench.worker()
    job_id = bench.submit("gate")
    started(bench, job_id, 1)
    children = worker.children()
    os.kill(worker.process.pid, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 10)
    worker.process.wait(10)
    bench.worker()
    runs_again(bench, within, job_id, killed)
    open_gate(bench, job_id)
    assert result_of(bench, job_id)["attempt"] == 2


def test_a_killed_process_group_loses_no_waiting_job(bench: Bench, within: Within, trial: int):
    worker = bench.worker()
    running = bench.submit("gate")
    started(bench, running, 1)
    waiting = [bench.submit("echo", text=str(i)) for i in range(5)]
    worker.kill()
    killed = time.monotonic()
    open_gate(bench, running)
    bench.worker()
    runs_again(bench, within, running, killed)
    for job_id in (running, *waiting):
        bench.until_state(job_id, "SUCCEEDED")
    assert [bench.runs(job_id) for job_id in waiting] == [["ran"]] * 5


def test_a_killed_valkey_comes_back_with_every_job(
    bench: Bench, server: ValkeyServer, within: Within, trial: int
):
    bench.worker()
    running = bench.submit("gate")
    started(bench, running, 1)
    waiting = [bench.submit("echo", text=str(i)) for i in range(5)]
    server.kill()
    with pytest.raises(PalimpsestError) as caught:
        bench.store.get(running)
    assert caught.value.reason == Reason.JOB_STORE_UNAVAILABLE
    open_gate(bench, running)
    restarted = time.monotonic()
    server.start()
    jobs = [running, *waiting]
    within("all done", 30, lambda: all(bench.store.get(j).state == "SUCCEEDED" for j in jobs), restarted)
    # The run went on while its record was away: nothing was started twice.
    assert bench.runs(running) == ["started"]
    assert [bench.runs(job_id) for job_id in waiting] == [["ran"]] * 5


def test_a_frozen_run_finds_its_result_refused(bench: Bench, within: Within, trial: int):
    frozen = bench.worker()
    job_id = bench.submit("gate")
    started(bench, job_id, 1)
    stopped = [frozen.process.pid, *(child.pid for child in frozen.children())]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    stood_still = time.monotonic()
    bench.worker()
    runs_again(bench, within, job_id, stood_still)
    open_gate(bench, job_id)
    first = result_of(bench, job_id)
    revision = bench.store.get(job_id).revision
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    until(lambda: "attempt discarded" in frozen.log.read_text(), 30)
    after = bench.store.get(job_id)
    assert after.revision == revision
    assert dict(after.response_message()) == first  # type: ignore[call-overload]
    assert first["attempt"] == 2


def test_a_message_taken_by_a_worker_that_died_before_noting_it_is_repeated(
    bench: Bench, within: Within, trial: int
):
    doomed = bench.worker("tests.integration.jobs.doomed")
    job_id = bench.submit("echo", text="a message in no list")
    assert doomed.process.wait(30) == -signal.SIGKILL
    died = time.monotonic()
    broker = f"{bench.settings.redis_prefix}celery:"
    assert bench.redis.llen(f"{broker}cpu") == bench.redis.hlen(f"{broker}unacked") == 0
    record = bench.store.get(job_id)
    assert (record.state, record.attempt) == ("QUEUED", 0)
    bench.worker()
    within("runs again", 40, lambda: bench.runs(job_id), died)
    bench.until_state(job_id, "SUCCEEDED")
    assert (bench.runs(job_id), bench.store.get(job_id).attempt) == (["ran"], 1)
    assert bench.redis.hget(f"{bench.store.prefix}jobs:counters", "ended test.echo succeeded") == b"1"


def test_a_worker_told_to_stop_hands_its_job_over(bench: Bench, within: Within, trial: int):
    worker = bench.worker()
    job_id = bench.submit("resume")
    started(bench, job_id, 1)
    bench.worker()
    worker.process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    within("taken over", 40, lambda: "resumed" in bench.runs(job_id), told)
    assert result_of(bench, job_id) == {"step": 7, "attempt": 1}
    assert bench.runs(job_id) == ["started", "drained", "resumed"]
    assert worker.process.wait(15) == 0, worker.log.read_text()


def test_a_full_store_refuses_new_work_and_finishes_the_old(tmp_path: Path, redis_prefix: str, trial: int):
    server = ValkeyServer(tmp_path / "valkey").start()
    bench = Bench(
        Settings(state_dir=tmp_path / "state", redis_url=server.url, redis_prefix=redis_prefix).model_copy(
            update=SHORT
        ),
        tmp_path,
    )
    try:
        bench.worker()
        running = bench.submit("gate")
        started(bench, running, 1)
        keys = set(bench.redis.keys(f"{redis_prefix}job:*"))
        bench.redis.config_set("maxmemory", "1mb")
        with pytest.raises(ResourceExhausted) as caught:
            bench.submit("echo", text="too much")
        assert caught.value.reason == Reason.JOB_STORE_FULL
        assert set(bench.redis.keys(f"{redis_prefix}job:*")) == keys
        open_gate(bench, running)
        bench.until_state(running, "SUCCEEDED")
        bench.redis.config_set("maxmemory", "0")
        after = bench.submit("echo", text="room again")
        bench.until_state(after, "SUCCEEDED")
    finally:
        bench.close()
        server.stop()
