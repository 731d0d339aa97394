"""Partial results: in order, each once, bounded, and gone with the job."""

import pytest
import redis
from google.protobuf.wrappers_pb2 import StringValue

from palimpsest.errors import InvalidArgument, NotFound, Reason
from palimpsest.jobs import JobStore
from palimpsest.jobs.attempt import Attempt
from palimpsest.jobs.record import Partial
from palimpsest.jobs.replies import Claim
from palimpsest.jobs.transitions import LARGEST_PARTIAL
from palimpsest.progress import LeaseLost
from tests.unit.jobs.harness import Clock, echo, run_of


@pytest.fixture
def run(store: JobStore) -> Claim:
    return run_of(store.claim(store.submit(echo()).id, "owner", "worker"))


def add(store: JobStore, run: Claim, *texts: str, first: int = 1) -> None:
    for number, text in enumerate(texts, first):
        assert store.add_partial(run, StringValue(value=text), number)


def texts(partials: list[Partial]) -> list[str]:
    assert {partial.type_name for partial in partials} <= {"google.protobuf.StringValue"}
    return [StringValue.FromString(partial.value).value for partial in partials]


def test_they_come_in_order_from_any_point(store: JobStore, run: Claim, clock: Clock):
    before = store.get(run.job_id).revision
    add(store, run, "a", "b", "ç")
    assert store.get(run.job_id).revision == before + 3
    every = store.partials(run.job_id)
    assert texts(every) == ["a", "b", "ç"]
    assert [(p.sequence, p.attempt, p.create_ms) for p in every] == [(n, 1, clock()) for n in (1, 2, 3)]
    assert texts(store.partials(run.job_id, since=2)) == ["ç"]
    assert store.partials(run.job_id, since=3) == store.partials(run.job_id, since=99) == []


def test_a_call_repeated_after_a_lost_answer_adds_nothing(store: JobStore, run: Claim):
    add(store, run, "a")
    add(store, run, "a")
    add(store, run, "b", first=2)
    assert texts(store.partials(run.job_id)) == ["a", "b"]


def test_an_attempt_that_lost_its_lease_adds_nothing(store: JobStore, run: Claim, clock: Clock):
    add(store, run, "a")
    clock.advance(store.settings.lease_seconds + 1)
    store.sweep()
    second = run_of(store.claim(run.job_id, "another", "worker"))
    assert not store.add_partial(run, StringValue(value="late"), 2)
    add(store, second, "a")
    assert [(p.sequence, p.attempt) for p in store.partials(run.job_id)] == [(1, 1), (2, 2)]


def test_the_last_thousand_are_kept(store: JobStore, run: Claim):
    add(store, run, *map(str, range(1003)))
    kept = store.partials(run.job_id)
    assert [p.sequence for p in kept] == list(range(4, 1004))
    assert texts(kept) == [str(n) for n in range(3, 1003)]
    assert [p.sequence for p in store.partials(run.job_id, since=1)] == [p.sequence for p in kept]
    assert [p.sequence for p in store.partials(run.job_id, since=1002)] == [1003]


def test_they_take_no_more_than_a_mebibyte(store: JobStore, run: Claim, client: redis.Redis):
    large = "x" * (LARGEST_PARTIAL - 100)
    add(store, run, *[large] * 20, "last")
    kept = store.partials(run.job_id)
    stored = client.lrange(f"{store.prefix}partials:{run.job_id}", 0, -1)
    assert sum(map(len, stored)) <= 1 << 20
    assert len(kept) >= 10
    assert texts(kept)[-1] == "last"
    assert kept[-1].sequence == 21
    with pytest.raises(InvalidArgument) as caught:
        store.add_partial(run, StringValue(value="x" * LARGEST_PARTIAL), 22)
    assert caught.value.reason == Reason.JOB_TOO_LARGE


def test_they_are_deleted_with_the_job(store: JobStore, run: Claim, client: redis.Redis):
    add(store, run, "a")
    store.succeed(run, "google.protobuf.StringValue", '"x"', {})
    assert texts(store.partials(run.job_id)) == ["a"]
    store.delete(run.job_id)
    assert not client.exists(f"{store.prefix}partials:{run.job_id}")
    with pytest.raises(NotFound):
        store.partials(run.job_id)


def test_a_retry_drops_them_and_goes_on_counting(store: JobStore, run: Claim):
    add(store, run, "a", "b")
    store.fail(run, NotFound(Reason.MODEL_NOT_FOUND, "gone"))
    store.retry(run.job_id)
    assert store.partials(run.job_id) == []
    again = run_of(store.claim(run.job_id, "another", "worker"))
    add(store, again, "c")
    assert [(p.sequence, p.attempt) for p in store.partials(run.job_id, since=2)] == [(3, 1)]


def test_an_attempt_numbers_its_own(store: JobStore):
    record = store.claim(store.submit(echo()).id, "owner", "worker")
    assert record is not None
    with Attempt(store, record) as attempt:
        attempt.partial(StringValue(value="same"))
        attempt.partial(StringValue(value="same"))
        store.release(attempt.claim)
        with pytest.raises(LeaseLost):
            attempt.partial(StringValue(value="late"))
    assert texts(store.partials(record.id)) == ["same", "same"]
