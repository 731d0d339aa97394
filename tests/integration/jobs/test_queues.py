"""Jobs reach the workers that serve what they need."""

from google.protobuf.struct_pb2 import Struct

from palimpsest.jobs.submission import job_spec
from palimpsest.settings import Settings
from tests.integration.jobs.harness import Bench
from tests.waiting import until


def submit(bench: Bench, needs: str) -> str:
    request = Struct()
    request.update({"folder": str(bench.folder), "text": needs})
    return bench.store.submit(job_spec("test.echo", request, bench.settings, principal="ann", needs=needs)).id


def worker_of(bench: Bench, job_id: str) -> str:
    return bench.store.get(job_id).worker


def test_a_job_that_needs_a_model_reaches_a_worker_that_serves_no_other_queue(bench: Bench):
    bench.worker(PALIMPSEST_WORKER_QUEUES=Settings().queue_for("model"))
    plain, model = submit(bench, "cpu"), submit(bench, "model")
    bench.until_state(model, "SUCCEEDED")
    assert bench.store.get(plain).state == "QUEUED"
    assert bench.store.stats(["cpu", "gpu"]).queues["gpu"].served
    assert not bench.store.stats(["cpu", "gpu"]).queues["cpu"].served


def test_a_worker_that_stands_by_leaves_the_queue_to_its_owner_and_takes_it_back(bench: Bench):
    standby = bench.worker(PALIMPSEST_WORKER_QUEUES="cpu", PALIMPSEST_WORKER_STANDBY_QUEUES="gpu")
    first = submit(bench, "model")
    bench.until_state(first, "SUCCEEDED")

    owner = bench.worker(PALIMPSEST_WORKER_QUEUES="gpu")
    until(lambda: bool(bench.store.owned(["gpu"])))
    theirs = [submit(bench, "train") for _ in range(4)]
    mine = submit(bench, "cpu")
    for job in (*theirs, mine):
        bench.until_state(job, "SUCCEEDED")
    assert {worker_of(bench, job) for job in theirs} != {worker_of(bench, first)}
    assert len({worker_of(bench, job) for job in theirs}) == 1
    assert worker_of(bench, mine) == worker_of(bench, first)

    owner.kill()
    last = submit(bench, "model")
    bench.until_state(last, "SUCCEEDED", timeout=60)
    assert worker_of(bench, last) == worker_of(bench, first)
    assert standby.process.poll() is None


def test_a_long_job_of_one_queue_keeps_none_of_another_waiting(bench: Bench):
    bench.worker()
    long = [bench.submit("gate", queue="gpu") for _ in range(2)]
    bench.until_state(long[0], "RUNNING")
    for number in range(3):
        quick = bench.submit("echo", text=str(number), queue="cpu")
        bench.until_state(quick, "SUCCEEDED")
    assert [bench.store.get(job).state for job in long] == ["RUNNING", "QUEUED"]
    for job in long:
        bench.folder.joinpath(f"{job}.gate").touch()
        bench.until_state(job, "SUCCEEDED")
