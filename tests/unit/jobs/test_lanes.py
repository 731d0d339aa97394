"""A worker runs so many jobs of each queue: a long one keeps none of another queue waiting."""

from palimpsest.errors import NotFound, Reason
from palimpsest.jobs import JobStore
from tests.unit.jobs.harness import echo, run_of


def take(store: JobStore, hint: str, owner: str, worker: str = "w", lane: int = 1):
    return store.claim(hint, owner, worker, fair=True, lane=lane)


def test_each_queue_has_its_own_lane(store):
    slow = [store.submit(echo(str(n), queue="gpu")).id for n in range(2)]
    quick = [store.submit(echo(str(n), queue="cpu")).id for n in range(2)]
    running = take(store, slow[0], "o1")
    assert running.id == slow[0]
    assert take(store, slow[1], "o2") is None
    first = take(store, quick[0], "o3")
    assert first.id == quick[0]
    assert take(store, quick[1], "o4") is None
    assert store.fail(run_of(first), NotFound(Reason.MODEL_NOT_FOUND, "none"))
    assert take(store, quick[1], "o5").id == quick[1]
    assert store.release(run_of(running))
    assert take(store, slow[1], "o6").id == slow[0]


def test_a_wider_lane_and_another_worker(store):
    jobs = [store.submit(echo(str(n))).id for n in range(4)]
    taken = [take(store, jobs[0], f"o{n}", lane=2) for n in range(3)]
    assert [record and record.id for record in taken] == [jobs[0], jobs[1], None]
    assert take(store, jobs[0], "other", worker="w2").id == jobs[2]


def test_a_job_that_found_its_lane_full_is_announced_again_at_once(store):
    running, waiting = (store.submit(echo(str(n))).id for n in range(2))
    take(store, running, "o1")
    assert store.sweep().hints == []
    assert take(store, waiting, "o2") is None
    assert store.sweep().hints == [(waiting, "cpu")]


def test_a_lane_is_free_again_when_the_lease_has_lapsed(store, clock):
    lost, waiting = (store.submit(echo(str(n))).id for n in range(2))
    take(store, lost, "o1")
    assert take(store, waiting, "o2") is None
    clock.advance(store.settings.lease_seconds + 1)
    assert store.sweep().lapsed == 1
    assert take(store, waiting, "o3") is not None
