"""Each transition of a job on a real server: what it changes, what it refuses."""

import pytest
import redis

from palimpsest.errors import (
    Code,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PalimpsestError,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from palimpsest.jobs import JobStore
from palimpsest.jobs.replies import Claim
from palimpsest.settings import Settings
from tests.unit.jobs.harness import Clock, echo, run_of

DIGEST = "sha256:" + "a" * 64
RESULT = ("google.protobuf.StringValue", '"done"', {})


def start(store: JobStore, job_id: str, owner: str = "one") -> Claim:
    return run_of(store.claim(job_id, owner, "worker"))


def succeed(store: JobStore, run: Claim) -> bool:
    return store.succeed(run, *RESULT)


# submit


def test_a_submitted_job_is_queued_and_on_disk(store: JobStore):
    record = store.submit(echo(principal="ada"))
    assert (record.state, record.revision, record.attempt, record.max_attempts) == ("QUEUED", 1, 0, 3)
    assert record.principal == "ada"
    assert record.request_message() == echo().request
    assert store.get(record.id) == record


def test_a_repeated_request_id_returns_the_first_job(store: JobStore):
    first = store.submit(echo(request_id="r", principal="ada"))
    assert store.submit(echo(request_id="r", principal="ada")).id == first.id
    assert store.submit(echo(request_id="r", principal="bob")).id != first.id
    with pytest.raises(InvalidArgument) as caught:
        store.submit(echo("another", request_id="r", principal="ada"))
    assert caught.value.reason == Reason.REQUEST_ID_REUSED
    start(store, first.id)
    assert store.submit(echo(request_id="r", principal="ada")).state == "RUNNING"


def test_a_request_id_outlives_a_deleted_job_without_harm(store: JobStore):
    first = store.submit(echo(request_id="r"))
    store.cancel(first.id)
    store.delete(first.id)
    assert store.submit(echo("another", request_id="r")).state == "QUEUED"


def test_identical_work_is_done_once(store: JobStore):
    action = {"model": "m", "seed": 1}
    first = store.submit(echo(action=action))
    assert store.submit(echo(action=dict(reversed(action.items())))).id == first.id
    assert store.submit(echo(action={"model": "m", "seed": 2})).id != first.id
    succeed(store, start(store, first.id))
    assert store.submit(echo(action=action)).state == "SUCCEEDED"
    again = store.submit(echo(action=action, skip_cache=True))
    assert again.id != first.id
    assert store.submit(echo(action=action)).id == again.id


@pytest.mark.parametrize("end", ["FAILED", "CANCELLED", "cancelling"])
def test_work_that_came_to_nothing_is_done_again(store: JobStore, end: str):
    first = store.submit(echo(action={"a": 1}))
    run = start(store, first.id)
    if end == "FAILED":
        store.fail(run, NotFound(Reason.MODEL_NOT_FOUND, "gone"))
    else:
        store.cancel(first.id)
        if end == "CANCELLED":
            store.release(run)
    assert store.submit(echo(action={"a": 1})).id != first.id


def test_a_full_queue_says_when_to_come_back(client: redis.Redis, settings: Settings):
    store = JobStore(client, settings.model_copy(update={"job_queue_limit": 1}))
    first = store.submit(echo(request_id="r"))
    with pytest.raises(ResourceExhausted) as caught:
        store.submit(echo())
    assert caught.value.reason == Reason.JOB_QUEUE_FULL
    assert caught.value.retry_after
    assert store.submit(echo(request_id="r")).id == first.id  # a repeat needs no room
    start(store, first.id)
    assert store.submit(echo()).state == "QUEUED"


def test_inputs_are_referred_to_as_long_as_the_record_is(store: JobStore, client: redis.Redis, clock: Clock):
    record = store.submit(echo(inputs=[DIGEST]))
    owner = f"job/{record.id}".encode()
    assert client.smembers(f"{store.prefix}refs:{DIGEST}") == {owner}
    succeed(store, start(store, record.id))
    clock.advance(store.settings.job_retention_seconds - 1)
    assert store.sweep().forgotten == 0
    clock.advance(2)
    assert store.sweep().forgotten == 1
    with pytest.raises(NotFound):
        store.get(record.id)
    assert not client.exists(f"{store.prefix}refs:{DIGEST}")
    leftovers = client.keys(f"{store.prefix}*")
    assert set(leftovers) == {f"{store.prefix}jobs:{name}".encode() for name in ("seq", "counters")}


def test_an_input_under_collection_is_refused_whole(store: JobStore, client: redis.Redis):
    client.sadd(f"{store.prefix}collecting", DIGEST)
    before = set(client.keys(f"{store.prefix}*"))
    with pytest.raises(NotFound) as caught:
        store.submit(echo(inputs=["sha256:" + "b" * 64, DIGEST], request_id="r", action={"a": 1}))
    assert caught.value.reason == Reason.ARTIFACT_NOT_FOUND
    assert set(client.keys(f"{store.prefix}*")) == before


def test_a_request_too_large_for_a_record_is_refused(store: JobStore):
    with pytest.raises(InvalidArgument) as caught:
        store.submit(echo("x" * (1 << 20)))
    assert caught.value.reason == Reason.JOB_TOO_LARGE


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_time_limit_is_refused(store: JobStore, timeout: float):
    with pytest.raises(InvalidArgument):
        store.submit(echo(execution_timeout=timeout))


# claim, heartbeat


def test_a_claim_is_exclusive_and_repeatable_by_its_owner(store: JobStore):
    job_id = store.submit(echo()).id
    run = start(store, job_id)
    assert run.attempt == 1
    assert store.claim(job_id, "two", "worker") is None
    assert start(store, job_id) == run
    assert store.claim("unknown", "one", "worker") is None


def test_a_delayed_job_is_not_claimed_before_its_time(store: JobStore, clock: Clock):
    job_id = store.submit(echo(delay=60)).id
    assert store.claim(job_id, "one", "worker") is None
    assert store.sweep().hints == []
    clock.advance(61)
    assert store.sweep().hints == [(job_id, "cpu")]
    start(store, job_id)


def test_a_heartbeat_renews_the_lease_and_carries_progress(store: JobStore, clock: Clock):
    job_id = store.submit(echo()).id
    run = start(store, job_id)
    for _ in range(5):
        clock.advance(store.settings.lease_seconds - 1)
        assert store.heartbeat(run) == (False, False, False)
        assert store.sweep().lapsed == 0
    before = store.get(job_id).revision
    store.heartbeat(run, {"stage": "prompts", "done": 3, "total": 4, "fraction": "0.75"})
    record = store.get(job_id)
    assert (record.stage, record.done, record.total, record.fraction) == ("prompts", 3, 4, 0.75)
    assert record.revision == before + 1


def test_a_silent_worker_loses_the_job_and_its_result(store: JobStore, clock: Clock):
    job_id = store.submit(echo()).id
    first = start(store, job_id)
    clock.advance(store.settings.lease_seconds + 1)
    swept = store.sweep()
    assert (swept.lapsed, swept.hints) == (1, [(job_id, "cpu")])
    assert store.heartbeat(first).lost
    second = start(store, job_id, "two")
    assert second.attempt == 2
    assert not succeed(store, first)
    assert not store.checkpoint(first, {})
    assert not store.publish(first, DIGEST)
    assert not store.release(first)
    assert succeed(store, second)
    assert not succeed(store, first)


def test_a_late_heartbeat_keeps_a_lease_nobody_has_taken(store: JobStore, clock: Clock):
    run = start(store, store.submit(echo()).id)
    clock.advance(store.settings.lease_seconds + 1)
    assert not store.heartbeat(run).lost
    assert store.sweep().lapsed == 0


def test_a_claim_takes_over_where_no_reconciler_runs(store: JobStore, clock: Clock):
    job_id = store.submit(echo()).id
    start(store, job_id)
    clock.advance(1.5 * store.settings.lease_seconds)
    assert store.claim(job_id, "two", "worker") is None
    clock.advance(store.settings.lease_seconds)
    assert start(store, job_id, "two").attempt == 2


def test_attempts_run_out_into_the_dead_letters(store: JobStore, client: redis.Redis, clock: Clock):
    job_id = store.submit(echo(max_attempts=2)).id
    for attempt in (1, 2):
        assert start(store, job_id, str(attempt)).attempt == attempt
        clock.advance(store.settings.lease_seconds + 1)
        store.sweep()
    record = store.get(job_id)
    assert record.state == "FAILED"
    assert record.error is not None
    assert record.error.reason == Reason.ATTEMPTS_EXHAUSTED
    assert client.zrange(f"{store.prefix}jobs:dead", 0, -1) == [job_id.encode()]
    assert store.retry(job_id).attempt == 0
    assert client.zcard(f"{store.prefix}jobs:dead") == 0


def test_an_attempt_has_a_time_limit_that_heartbeats_do_not_move(store: JobStore, clock: Clock):
    job_id = store.submit(echo(execution_timeout=20)).id
    run = start(store, job_id)
    for _ in range(2):
        clock.advance(9)
        assert not store.heartbeat(run).lost
        assert store.sweep().timed_out == 0
    clock.advance(9)
    assert store.sweep().timed_out == 1
    assert store.heartbeat(run).lost
    error = store.get(job_id).error
    assert error is not None
    assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, Reason.EXECUTION_TIMEOUT)


def test_a_draining_worker_is_told_and_given_nothing(store: JobStore):
    running, waiting = store.submit(echo()).id, store.submit(echo()).id
    run = start(store, running)
    store.drain("worker")
    assert store.heartbeat(run).drain
    assert store.claim(waiting, "two", "worker") is None
    assert (waiting, "cpu") in store.sweep().hints  # another worker is called at once
    assert store.claim(waiting, "two", "another") is not None


# ends


def test_release_gives_the_attempt_back(store: JobStore):
    job_id = store.submit(echo()).id
    for n in range(5):
        run = start(store, job_id, str(n))
        assert run.attempt == 1
        assert store.release(run)
    assert (job_id, "cpu") in store.sweep().hints


def test_a_job_that_is_put_off_gives_the_attempt_back_and_waits(store: JobStore, clock: Clock):
    job_id = store.submit(echo()).id
    for n in range(5):
        run = start(store, job_id, str(n))
        assert run.attempt == 1
        assert store.release(run, 10)
        assert store.claim(job_id, "early", "worker") is None
        assert store.sweep().hints == []
        clock.advance(11)
        assert store.sweep().hints == [(job_id, "cpu")]
    assert not store.release(run, 10)


def test_a_waiting_job_is_deferred_and_called_up(store: JobStore, clock: Clock):
    job_id = store.submit(echo()).id
    for delay in (3600, 7200):
        deferred = store.defer(job_id, delay)
        assert deferred is not None
        assert deferred.state == "QUEUED"
    clock.advance(3601)
    assert store.claim(job_id, "one", "worker") is None
    assert store.sweep().hints == []
    assert store.defer(job_id, 0) is not None
    assert store.sweep().hints == [(job_id, "cpu")]
    run = start(store, job_id)
    assert store.defer(job_id, 60) is None
    succeed(store, run)
    assert store.defer(job_id, 60) is None
    with pytest.raises(NotFound):
        store.defer("none", 0)


def test_a_repeated_finish_is_the_same_finish(store: JobStore):
    job_id = store.submit(echo()).id
    run = start(store, job_id)
    assert succeed(store, run)
    record = store.get(job_id)
    assert succeed(store, run)
    assert not store.fail(run, NotFound(Reason.MODEL_NOT_FOUND, "gone"))
    assert store.get(job_id) == record


def test_the_error_of_a_job_keeps_everything_a_caller_may_see(store: JobStore):
    job_id = store.submit(echo()).id
    error = InvalidArgument.field(Reason.INVALID_REQUEST, "prompts[3]", "too long", limit=10)
    error.retry_after = 2.5
    store.fail(start(store, job_id), error)
    seen = store.get(job_id).error
    assert isinstance(seen, InvalidArgument)
    assert vars(seen) == vars(error)
    assert store.get(job_id).operation().error.code == Code.INVALID_ARGUMENT


def test_cancel_ends_what_waits_and_asks_what_runs(store: JobStore):
    waiting, running = store.submit(echo()).id, store.submit(echo()).id
    assert store.cancel(waiting).state == "CANCELLED"
    assert store.claim(waiting, "one", "worker") is None
    run = start(store, running)
    record = store.cancel(running)
    assert (record.state, record.cancel_requested) == ("RUNNING", True)
    assert store.cancel(running).revision == record.revision
    assert store.heartbeat(run).cancel
    assert succeed(store, run)  # it was done before it noticed
    assert store.cancel(running).state == "SUCCEEDED"


@pytest.mark.parametrize("end", ["release", "lapse"])
def test_a_cancelled_job_does_not_go_back_to_the_queue(store: JobStore, clock: Clock, end: str):
    job_id = store.submit(echo()).id
    run = start(store, job_id)
    store.cancel(job_id)
    if end == "release":
        store.release(run)
    else:
        clock.advance(store.settings.lease_seconds + 1)
        store.sweep()
    assert store.get(job_id).state == "CANCELLED"


def test_only_finished_jobs_are_deleted(store: JobStore):
    job_id = store.submit(echo()).id
    with pytest.raises(FailedPrecondition) as caught:
        store.delete(job_id)
    assert caught.value.reason == Reason.JOB_NOT_FINISHED
    store.cancel(job_id)
    store.delete(job_id)
    for action in (store.get, store.delete, store.cancel, store.retry):
        with pytest.raises(NotFound):
            action(job_id)


def test_retry_starts_over_from_the_last_checkpoint(store: JobStore):
    job_id = store.submit(echo()).id
    run = start(store, job_id)
    store.checkpoint(run, {"step": 3})
    with pytest.raises(FailedPrecondition) as caught:
        store.retry(job_id)
    assert caught.value.reason == Reason.JOB_NOT_RETRYABLE
    store.fail(run, NotFound(Reason.MODEL_NOT_FOUND, "gone"))
    record = store.retry(job_id, "again", "ada")
    assert (record.state, record.attempt, record.error, record.end_ms) == ("QUEUED", 0, None, 0)
    assert record.checkpoint == '{"step": 3}'
    assert store.retry(job_id, "again", "ada").state == "QUEUED"
    other = store.submit(echo()).id
    store.cancel(other)
    with pytest.raises(InvalidArgument):
        store.retry(other, "again", "ada")


def test_published_artefacts_are_listed_once_and_kept(store: JobStore, client: redis.Redis):
    job_id = store.submit(echo(inputs=[DIGEST])).id
    run = start(store, job_id)
    other = "sha256:" + "b" * 64
    for digest in (other, DIGEST, other):
        assert store.publish(run, digest)
    assert store.get(job_id).artifacts == (other, DIGEST)
    assert client.sismember(f"{store.prefix}refs:{other}", f"job/{job_id}")
    client.sadd(f"{store.prefix}collecting", "sha256:" + "c" * 64)
    with pytest.raises(NotFound):
        store.publish(run, "sha256:" + "c" * 64)


# hints


def test_a_waiting_job_is_announced_again_but_not_all_the_time(store: JobStore, clock: Clock):
    job_id = store.submit(echo()).id
    assert store.sweep().hints == []
    clock.advance(11)
    assert store.sweep().hints == [(job_id, "cpu")]
    assert store.sweep().hints == []


def test_announcements_stop_where_messages_pile_up(store: JobStore, client: redis.Redis, clock: Clock):
    jobs = [store.submit(echo(str(n), queue="gpu")).id for n in range(3)]
    cpu = store.submit(echo()).id
    client.rpush(f"{store.prefix}celery:gpu", *["message"] * 62)
    clock.advance(11)
    hints = store.sweep().hints
    assert sum(queue == "gpu" for _, queue in hints) == 2
    assert (cpu, "cpu") in hints
    client.delete(f"{store.prefix}celery:gpu")
    clock.advance(11)
    assert {job for job, queue in store.sweep().hints if queue == "gpu"} == set(jobs)


# versions, failures of the store


def test_a_newer_record_is_refused_and_left_alone(store: JobStore, client: redis.Redis, clock: Clock):
    job_id = store.submit(echo(action={"a": 1})).id
    client.hset(f"{store.prefix}job:{job_id}", "v", 2)
    before = client.hgetall(f"{store.prefix}job:{job_id}")
    clock.advance(11)
    assert store.sweep().hints == []
    for action in (store.get, store.cancel, store.delete, store.retry, lambda i: store.claim(i, "o", "w")):
        with pytest.raises(FailedPrecondition) as caught:
            action(job_id)
        assert caught.value.reason == Reason.JOB_RECORD_NEWER
    assert client.hgetall(f"{store.prefix}job:{job_id}") == before
    assert store.submit(echo(action={"a": 1})).id != job_id


def test_an_older_record_with_fewer_fields_is_read(store: JobStore, client: redis.Redis):
    job_id = store.submit(echo()).id
    client.hdel(f"{store.prefix}job:{job_id}", "v", "timeout_ms", "principal", "response_type")
    client.hset(f"{store.prefix}job:{job_id}", "v", 1)
    assert store.get(job_id).principal == ""
    assert start(store, job_id).attempt == 1


def test_a_store_that_is_away_is_unavailable(settings: Settings):
    store = JobStore(redis.Redis.from_url("unix:///nowhere.sock", retry=None), settings)
    for action in (lambda: store.get("x"), lambda: store.submit(echo()), lambda: store.list()):
        with pytest.raises(Unavailable) as caught:
            action()
        assert caught.value.reason == Reason.JOB_STORE_UNAVAILABLE
        assert caught.value.retry_after


def test_the_revision_counts_every_change(store: JobStore):
    job_id = store.submit(echo()).id
    revisions = [store.get(job_id).revision]

    def changed() -> None:
        revisions.append(store.get(job_id).revision)

    run = start(store, job_id)
    changed()
    store.checkpoint(run, {})
    changed()
    store.cancel(job_id)
    changed()
    store.release(run)
    changed()
    store.retry(job_id)
    changed()
    assert revisions == [1, 2, 3, 4, 5, 6]


def test_the_action_must_be_plain_data(store: JobStore):
    with pytest.raises(PalimpsestError):
        store.submit(echo(action={"x": float("nan")}))
