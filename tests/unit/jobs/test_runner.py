"""A broken device ends the worker's process, once the job's error is recorded; other errors do not."""

import pytest
import redis
from google.protobuf.wrappers_pb2 import StringValue

from palimpsest.jobs import JobContext, JobStore, WorkerResources
from palimpsest.jobs.handlers import Handler
from palimpsest.jobs.runner import Runner
from palimpsest.lm.faults import is_fatal
from palimpsest.progress import Postponed
from tests.unit.jobs.harness import echo


@pytest.mark.parametrize(
    ("message", "exits"),
    [
        ("CUDA error: device-side assert triggered", [("FAILED", 1)]),
        ("CUDA out of memory. Tried to allocate 20.00 GiB.", []),
    ],
)
def test_only_a_broken_device_ends_the_process(store: JobStore, client: redis.Redis, message, exits):
    def fail(request: StringValue, job: JobContext) -> StringValue:
        raise RuntimeError(message)

    job_id, ended = store.submit(echo()).id, []
    Runner(
        store,
        WorkerResources(store.settings, client),
        lambda _kind: Handler(fail, StringValue, StringValue, 600.0),
        "here:1:a",
        is_fatal=is_fatal,
        exit_process=lambda code: ended.append((store.get(job_id).state, code)),
    ).run(job_id)
    assert ended == exits
    assert store.get(job_id).state == "FAILED"


def test_a_handler_that_cannot_begin_yet_is_called_again_later(store: JobStore, client: redis.Redis):
    called = []

    def wait(request: StringValue, job: JobContext) -> StringValue:
        called.append(job.attempt)
        if len(called) == 1:
            raise Postponed(60)
        return request

    job_id = store.submit(echo()).id
    find = Handler(wait, StringValue, StringValue, 600.0)
    runner = Runner(store, WorkerResources(store.settings, client), lambda _kind: find, "here:1:a")
    runner.run(job_id)
    assert (store.get(job_id).state, called) == ("QUEUED", [1])
    runner.run(job_id)
    assert called == [1]
    store.defer(job_id, 0)
    runner.run(job_id)
    assert (store.get(job_id).state, called) == ("SUCCEEDED", [1, 1])
