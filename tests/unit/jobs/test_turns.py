"""Callers take turns: a thousand jobs of one do not make another's wait for all of them."""

import random

import pytest
import redis

from palimpsest import errors
from palimpsest.jobs import JobStore
from palimpsest.settings import Settings
from tests.unit.jobs.harness import Clock, echo, run_of

MANY = 1_000


def take(store: JobStore, hint: str, owner: str):
    return store.claim(hint, owner, "w", fair=True)


def submit(store: JobStore, principal: str, count: int, **fields: object) -> list[str]:
    return [store.submit(echo(str(n), principal=principal, **fields)).id for n in range(count)]


def test_whoever_was_served_longest_ago_is_next_with_the_oldest_job(store):
    alice, bob, carol = (submit(store, name, count) for name, count in (("a", 5), ("b", 2), ("c", 1)))
    order = []
    for n in range(8):  # the hints come in the order of submission, all of alice's first
        record = take(store, (alice + bob + carol)[n], f"owner-{n}")
        order.append(record.id)
    assert order == [alice[0], bob[0], carol[0], alice[1], bob[1], *alice[2:]]
    assert take(store, alice[0], "late") is None


def test_a_newcomer_waits_for_one_job_of_each_other(store):
    alice, bob = submit(store, "a", 50), submit(store, "b", 50)
    for n in range(40):
        take(store, alice[n], f"owner-{n}")
    (late,) = submit(store, "late", 1)
    taken = [take(store, alice[0], f"then-{n}").id for n in range(3)]
    assert set(taken) == {late, alice[20], bob[20]}


def test_a_hint_of_a_job_that_is_done_serves_the_queue_all_the_same(store):
    first, second = submit(store, "a", 2)
    (other,) = submit(store, "b", 1)
    assert take(store, second, "o1").id == first
    assert take(store, first, "o2").id == other
    assert take(store, other, "o3").id == second


def test_queues_do_not_mix(store):
    (slow,) = submit(store, "a", 1, queue="gpu")
    (quick,) = submit(store, "b", 1, queue="cpu")
    assert take(store, quick, "o1").id == quick
    assert take(store, quick, "o2") is None
    assert take(store, slow, "o3").id == slow


def test_a_lost_answer_takes_no_second_job(store):
    first, second = submit(store, "a", 2)
    assert take(store, second, "o1") == take(store, second, "o1")
    assert store.get(first).state == "RUNNING"
    assert store.get(second).state == "QUEUED"


def test_a_job_that_is_not_due_gives_its_turn_away(store, clock):
    (later,) = submit(store, "a", 1, delay=60)
    now, then = submit(store, "b", 2)
    assert take(store, later, "o1").id == now
    assert take(store, later, "o2").id == then
    assert take(store, later, "o3") is None
    clock.advance(61)
    assert take(store, now, "o4").id == later


def test_jobs_that_left_the_queue_are_not_waited_for(store):
    """The index of who waits is that of the records, whatever happened to them."""
    chosen = random.Random(3)
    ids = [store.submit(echo(str(n), principal=f"p{n % 3}")).id for n in range(30)]
    gone = set(chosen.sample(ids, 10))
    for job_id in gone:
        store.cancel(job_id)
        if chosen.random() < 0.5:
            store.delete(job_id)
    taken = [take(store, ids[0], f"o{n}") for n in range(20)]
    assert sorted(record.id for record in taken) == sorted(set(ids) - gone)
    assert store.release(run_of(taken[0]))
    assert take(store, ids[0], "again").id == taken[0].id


def test_one_caller_may_not_fill_the_queue(client: redis.Redis, settings: Settings, clock: Clock):
    limited = settings.model_copy(update={"job_queue_limit": 8, "caller_share": 0.5})
    store = JobStore(client, limited, clock=clock)
    submit(store, "a", 4)
    with pytest.raises(errors.ResourceExhausted) as caught:
        submit(store, "a", 1)
    assert caught.value.reason == "QUOTA_EXCEEDED"
    submit(store, "b", 4)


def test_many_jobs_of_one_caller_hide_nobody_elses(client: redis.Redis, settings: Settings, clock: Clock):
    limited = settings.model_copy(update={"job_queue_limit": 2 * MANY, "caller_share": 0.5})
    store = JobStore(client, limited, clock=clock)
    many = submit(store, "many", MANY)
    (one,) = submit(store, "one", 1)
    (elsewhere,) = submit(store, "one", 1, queue="gpu")
    assert [record.id for record in store.list(principal="one").records] == [elsewhere, one]
    assert one in [take(store, many[n], f"o{n}").id for n in range(2)]
    clock.advance(11)  # every hint is due, and Redis has given none of them to a worker
    announced: set[str] = set()
    sweeps = 0
    while (swept := store.sweep()).more:
        announced |= {job_id for job_id, _ in swept.hints}
        sweeps += 1
    announced |= {job_id for job_id, _ in swept.hints}
    assert elsewhere in announced
    assert sweeps <= 1 + MANY // 100
