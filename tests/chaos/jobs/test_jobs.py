"""Promises of the job system, kept while processes are killed, frozen and starved.

PALIMPSEST_CHAOS_TRIALS sets how often each is tried (1).
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import PalimpsestError, Reason, ResourceExhausted
from palimpsest.settings import Settings
from tests.integration.jobs.harness import SHORT, Bench
from tests.waiting import until

TRIALS = int(os.environ.get("PALIMPSEST_CHAOS_TRIALS", "1"))
pytestmark = [pytest.mark.chaos, pytest.mark.parametrize("trial", range(TRIALS))]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of the test's own, to be killed."""
    server = ValkeyServer(tmp_path / "valkey").start()
    yield server
    server.stop()


@pytest.fixture
def bench(server: ValkeyServer, redis_prefix: str, tmp_path: Path) -> Iterator[Bench]:
    settings = Settings(state_dir=tmp_path / "state", redis_url=server.url, redis_prefix=redis_prefix)
    bench = Bench(settings.model_copy(update=SHORT), tmp_path)
    yield bench
    bench.close()


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


def test_a_killed_child_costs_an_attempt_and_nothing_else(bench: Bench, trial: int):
    worker = bench.worker()
    job_id = bench.submit("gate")
    started(bench, job_id, 1)
    os.kill(child_running(bench, worker.process.pid), signal.SIGKILL)
    started(bench, job_id, 2)
    open_gate(bench, job_id)
    assert result_of(bench, job_id)["attempt"] == 2
    assert bench.runs(job_id) == ["started", "started"]


def test_a_killed_worker_takes_its_children_along_and_the_next_one_takes_over(bench: Bench, trial: int):
    worker = bench.worker()
    job_id = bench.submit("gate")
    started(bench, job_id, 1)
    children = worker.children()
    os.kill(worker.process.pid, signal.SIGKILL)
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 10)
    worker.process.wait(10)
    bench.worker()
    started(bench, job_id, 2)
    open_gate(bench, job_id)
    assert result_of(bench, job_id)["attempt"] == 2


def test_a_killed_process_group_loses_no_waiting_job(bench: Bench, trial: int):
    worker = bench.worker()
    running = bench.submit("gate")
    started(bench, running, 1)
    waiting = [bench.submit("echo", text=str(i)) for i in range(5)]
    worker.kill()
    open_gate(bench, running)
    bench.worker()
    for job_id in (running, *waiting):
        bench.until_state(job_id, "SUCCEEDED")
    assert [bench.runs(job_id) for job_id in waiting] == [["ran"]] * 5


def test_a_killed_valkey_comes_back_with_every_job(bench: Bench, server: ValkeyServer, trial: int):
    bench.worker()
    running = bench.submit("gate")
    started(bench, running, 1)
    waiting = [bench.submit("echo", text=str(i)) for i in range(5)]
    server.kill()
    with pytest.raises(PalimpsestError) as caught:
        bench.store.get(running)
    assert caught.value.reason == Reason.JOB_STORE_UNAVAILABLE
    open_gate(bench, running)
    server.start()
    for job_id in (running, *waiting):
        bench.until_state(job_id, "SUCCEEDED")
    # The run went on while its record was away: nothing was started twice.
    assert bench.runs(running) == ["started"]
    assert [bench.runs(job_id) for job_id in waiting] == [["ran"]] * 5


def test_a_frozen_run_finds_its_result_refused(bench: Bench, trial: int):
    frozen = bench.worker()
    job_id = bench.submit("gate")
    started(bench, job_id, 1)
    stopped = [frozen.process.pid, *(child.pid for child in frozen.children())]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    bench.worker()
    started(bench, job_id, 2)
    open_gate(bench, job_id)
    first = result_of(bench, job_id)
    revision = bench.store.get(job_id).revision
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    until(lambda: "run discarded" in frozen.log.read_text(), 30)
    after = bench.store.get(job_id)
    assert after.revision == revision
    assert dict(after.response_message()) == first  # type: ignore[call-overload]
    assert first["attempt"] == 2


def test_a_lost_hint_is_repeated(bench: Bench, trial: int):
    """As if a worker had died between taking the message and noting that it had."""
    blocker = bench.submit("echo", text="a message in the broker")
    queue = f"{bench.settings.redis_prefix}celery:cpu"
    until(lambda: bench.redis.llen(queue), 10)
    bench.redis.delete(queue)
    bench.worker()
    bench.until_state(blocker, "SUCCEEDED")


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
