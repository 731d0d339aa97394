"""Equal work of two principals: results are shared, running jobs never are."""

import pytest
import redis
from google.protobuf.wrappers_pb2 import StringValue

from palimpsest.errors import NotFound, Reason
from palimpsest.jobs import JobStore
from palimpsest.jobs.record import JobRecord
from palimpsest.jobs.replies import Claim
from tests.unit.jobs.harness import Clock, echo, run_of

ACTION = {"a": 1}
INPUT, OUTPUT = ("sha256:" + letter * 64 for letter in "ab")


def submit(store: JobStore, principal: str, **fields: object) -> JobRecord:
    return store.submit(echo(principal=principal, action=ACTION, inputs=[INPUT], **fields))


def start(store: JobStore, record: JobRecord) -> Claim:
    return run_of(store.claim(record.id, f"run {record.id}", "worker"))


def succeed(store: JobStore, record: JobRecord, text: str) -> None:
    run = start(store, record)
    store.publish(run, OUTPUT)
    store.add_partial(run, StringValue(value="half"), 1)
    assert store.succeed(
        run, "google.protobuf.StringValue", f'"{text}"', {"stage": "writing", "done": 3, "total": 3}
    )


def response(store: JobStore, record: JobRecord) -> str:
    return store.get(record.id).response_message().value  # type: ignore[attr-defined]


def test_another_principals_cancellation_does_not_end_my_work(store: JobStore):
    mine, theirs = submit(store, "ann"), submit(store, "bob")
    assert mine.id != theirs.id
    assert submit(store, "ann").id == mine.id
    start(store, mine)
    store.cancel(theirs.id)
    assert store.get(mine.id).state == "RUNNING"
    assert not store.get(mine.id).cancel_requested


def test_a_finished_result_is_copied_to_a_record_of_ones_own(store: JobStore, client: redis.Redis):
    original = submit(store, "ann")
    succeed(store, original, "done")
    copy = submit(store, "bob", request_id="r")
    assert copy.id != original.id
    assert (copy.principal, copy.state, copy.attempt, copy.stage) == ("bob", "SUCCEEDED", 0, "writing")
    assert copy.artifacts == (OUTPUT,)
    assert copy.end_ms
    assert copy.expire_ms
    assert response(store, copy) == "done"
    assert [partial.sequence for partial in store.partials(copy.id)] == [1]
    assert submit(store, "bob").id == submit(store, "bob", request_id="r").id == copy.id
    assert store.stats([]).counters["ended test.echo shared"] == 1
    # Each record keeps the artefacts alive by itself.
    store.delete(original.id)
    assert response(store, copy) == "done"
    for digest in (INPUT, OUTPUT):
        assert client.smembers(f"{store.prefix}refs:{digest}") == {f"job/{copy.id}".encode()}
    assert submit(store, "cid").state == "QUEUED"


def test_a_copy_lives_its_own_retention(store: JobStore, clock: Clock):
    original = submit(store, "ann")
    succeed(store, original, "done")
    clock.advance(store.settings.job_retention_seconds - 60)
    copy = submit(store, "bob")
    clock.advance(120)
    store.sweep()
    with pytest.raises(NotFound):
        store.get(original.id)
    assert response(store, copy) == "done"


def test_a_copy_needs_no_room_in_the_queue(client: redis.Redis, store: JobStore):
    succeed(store, submit(store, "ann"), "done")
    full = JobStore(client, store.settings.model_copy(update={"job_queue_limit": 0}))
    assert submit(full, "bob").state == "SUCCEEDED"


def test_a_result_computed_again_is_what_others_get(store: JobStore):
    succeed(store, submit(store, "ann"), "old")
    again = submit(store, "ann", skip_cache=True)
    assert response(store, submit(store, "bob")) == "old"  # not before it has succeeded
    succeed(store, again, "new")
    assert response(store, submit(store, "cid")) == "new"
    assert submit(store, "ann").id == again.id


@pytest.mark.parametrize("end", ["FAILED", "CANCELLED"])
def test_what_came_to_nothing_is_not_shared(store: JobStore, end: str):
    first = submit(store, "ann")
    run = start(store, first)
    if end == "FAILED":
        store.fail(run, NotFound(Reason.MODEL_NOT_FOUND, "gone"))
    else:
        store.cancel(first.id)
        store.release(run)
    assert store.get(first.id).state == end
    assert submit(store, "bob").state == "QUEUED"


def test_lists_are_of_one_principal_or_of_all(store: JobStore):
    # Names that would run into each other if a key merely joined them.
    names = ["ann", "ann:kind:test.echo", "ann:QUEUED", ""]
    jobs = {name: store.submit(echo(principal=name)).id for name in names}
    for name in names:
        for filter_text in ("", "kind=test.echo", "state=QUEUED", "state=QUEUED AND kind=test.echo"):
            assert [r.id for r in store.list(filter_text, principal=name).records] == [jobs[name]]
    assert {r.id for r in store.list().records} == set(jobs.values())
    store.cancel(jobs["ann"])
    assert store.list("state=QUEUED", principal="ann").records == []
    assert [r.id for r in store.list("state=CANCELLED", principal="ann").records] == [jobs["ann"]]
