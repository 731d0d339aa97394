"""Operations and JobsService over a real socket: what callers get, and what malformed calls get."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import redis
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from palimpsest.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from palimpsest.errors import Code, Reason
from palimpsest.jobs import AsyncJobStore, JobSpec, JobStore
from palimpsest.jobs.replies import Claim
from palimpsest.rpc.operations import JobsServicer
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from palimpsest.status import from_rpc_error, from_status
from tests.waiting import until_async

TIMEOUT = 10


class JobsRoom:
    """A room with nothing but jobs."""

    name = "jobs"
    imports: tuple[str, ...] = ()

    async def start(self, resources: Any) -> list[Any]:
        self.jobs: AsyncJobStore = resources.jobs
        return [JobsServicer(resources.jobs)]

    async def stop(self) -> None: ...


class Calls:
    """Stubs, and a worker's side of the store."""

    def __init__(self, channel: grpc.aio.Channel, worker: JobStore, jobs: AsyncJobStore) -> None:
        self.operations = operations_pb2_grpc.OperationsStub(channel)
        self.jobs = jobs_pb2_grpc.JobsServiceStub(channel)
        self.worker = worker
        self.store = jobs

    def submit(self, text: str = "hello") -> str:
        return self.worker.submit(JobSpec(kind="test.echo", request=StringValue(value=text))).name

    def claim(self, name: str) -> Claim:
        record = self.worker.claim(name.removeprefix("operations/"), "one", "worker")
        assert record is not None
        return Claim(record.id, record.attempt, record.owner, record.worker)

    def succeed(self, run: Claim) -> None:
        assert self.worker.succeed(run, "google.protobuf.StringValue", '"done"', {})

    async def refused(self, call: Any) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)


@pytest.fixture
async def calls(settings: Settings, redis_prefix: str) -> AsyncIterator[Calls]:
    room = JobsRoom()
    server = Server(settings, [room])  # type: ignore[list-item]
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with redis.Redis.from_url(settings.redis_url) as client:
            yield Calls(channel, JobStore(client, settings), room.jobs)
    await server.stop(0)


def metadata(operation: Any) -> jobs_pb2.JobMetadata:
    message = jobs_pb2.JobMetadata()
    assert operation.metadata.Unpack(message)
    return message


async def test_an_operation_from_submission_to_result(calls: Calls):
    name = calls.submit()
    get = operations_pb2.GetOperationRequest(name=name)
    queued = await calls.operations.GetOperation(get, timeout=TIMEOUT)
    assert not queued.done
    assert metadata(queued).state == jobs_pb2.JOB_STATE_QUEUED
    run = calls.claim(name)
    calls.worker.heartbeat(run, {"stage": "half", "done": 1, "total": 2, "fraction": "0.5"})
    running = metadata(await calls.operations.GetOperation(get, timeout=TIMEOUT))
    assert (running.state, running.stage, running.fraction, running.attempt) == (
        jobs_pb2.JOB_STATE_RUNNING,
        "half",
        0.5,
        1,
    )
    calls.succeed(run)
    done = await calls.operations.GetOperation(get, timeout=TIMEOUT)
    result = StringValue()
    assert done.done
    assert done.response.Unpack(result)
    assert result.value == "done"
    assert metadata(done).HasField("expire_time")


async def test_a_wait_ends_with_the_job(calls: Calls):
    name = calls.submit()
    run = calls.claim(name)
    waiting = asyncio.ensure_future(
        calls.operations.WaitOperation(operations_pb2.WaitOperationRequest(name=name), timeout=TIMEOUT)
    )
    calls.succeed(run)
    assert (await waiting).done


async def test_a_wait_ends_at_its_timeout_or_before_the_deadline(calls: Calls):
    name = calls.submit()
    for timeout, deadline in ((Duration(), TIMEOUT), (Duration(nanos=1000), TIMEOUT), (None, 1)):
        request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
        assert not (await calls.operations.WaitOperation(request, timeout=deadline)).done


async def test_cancel_and_delete(calls: Calls):
    name = calls.submit()
    delete = operations_pb2.DeleteOperationRequest(name=name)
    error = await calls.refused(calls.operations.DeleteOperation(delete, timeout=TIMEOUT))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.JOB_NOT_FINISHED)
    await calls.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name), timeout=TIMEOUT)
    get = operations_pb2.GetOperationRequest(name=name)
    cancelled = await calls.operations.GetOperation(get, timeout=TIMEOUT)
    assert from_status(cancelled.error).reason == Reason.JOB_CANCELLED
    assert cancelled.error.code == Code.CANCELLED
    await calls.operations.DeleteOperation(delete, timeout=TIMEOUT)
    error = await calls.refused(calls.operations.GetOperation(get, timeout=TIMEOUT))
    assert (error.code, error.reason) == (Code.NOT_FOUND, Reason.JOB_NOT_FOUND)


async def test_lists_page_through_a_filter(calls: Calls):
    names = [calls.submit(str(n)) for n in range(5)]
    calls.claim(names[2])
    seen, token = [], ""
    while True:
        page = await calls.operations.ListOperations(
            operations_pb2.ListOperationsRequest(
                name="operations", filter="state=QUEUED AND kind=test.echo", page_size=2, page_token=token
            ),
            timeout=TIMEOUT,
        )
        seen += [operation.name for operation in page.operations]
        token = page.next_page_token
        if not token:
            break
    assert seen == [names[n] for n in (4, 3, 1, 0)]


async def test_a_watch_streams_changes_and_goes_on_from_a_revision(calls: Calls):
    name = calls.submit()
    stream = calls.jobs.WatchOperation(jobs_pb2.WatchOperationRequest(name=name))
    first = metadata(await stream.read())
    run = calls.claim(name)
    second = metadata(await stream.read())
    assert (first.state, second.state) == (jobs_pb2.JOB_STATE_QUEUED, jobs_pb2.JOB_STATE_RUNNING)
    stream.cancel()
    calls.succeed(run)
    request = jobs_pb2.WatchOperationRequest(name=name, since_revision=second.revision)
    rest = [operation async for operation in calls.jobs.WatchOperation(request)]
    assert [metadata(o).state for o in rest] == [jobs_pb2.JOB_STATE_SUCCEEDED]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calls.jobs.WatchOperation(jobs_pb2.WatchOperationRequest(name="operations/none")).read()
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_watcher_that_leaves_is_forgotten(calls: Calls):
    name = calls.submit()
    stream = calls.jobs.WatchOperation(jobs_pb2.WatchOperationRequest(name=name))
    await stream.read()
    listeners = calls.store._announcements._listeners
    assert listeners
    stream.cancel()

    async def gone() -> bool:
        return not listeners

    await until_async(gone, 10)


async def test_a_retry_is_idempotent_and_only_for_what_failed(calls: Calls):
    name = calls.submit()
    retry = jobs_pb2.RetryJobRequest(name=name, request_id="again")
    error = await calls.refused(calls.jobs.RetryJob(retry, timeout=TIMEOUT))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.JOB_NOT_RETRYABLE)
    calls.worker.cancel(name.removeprefix("operations/"))
    for _ in range(2):
        again = await calls.jobs.RetryJob(retry, timeout=TIMEOUT)
        assert again.name == name
        assert metadata(again).state == jobs_pb2.JOB_STATE_QUEUED


NAMES = st.one_of(
    st.text(max_size=80), st.text(max_size=20).map("operations/".__add__), st.just("operations/x")
)
INTEGERS = st.integers(-(2**31), 2**31 - 1)


async def test_malformed_calls_are_answered_and_never_a_bug(calls: Calls):
    """Every answer to a call made of anything at all is a proper one."""
    answers: set[grpc.StatusCode] = set()
    reasons: set[str] = set()
    loop = asyncio.get_running_loop()

    async def answer(method: Any, request: Any) -> None:
        try:
            await method(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            answers.add(error.code())
            reasons.add(from_rpc_error(error).reason)

    def say(method: Any, request: Any) -> None:
        asyncio.run_coroutine_threadsafe(answer(method, request), loop).result(20)

    @hypothesis_settings(
        max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(NAMES, st.text(max_size=60), INTEGERS, st.text(max_size=60), st.integers(-(2**63), 0), INTEGERS)
    def fuzz(name: str, text: str, size: int, token: str, seconds: int, nanos: int) -> None:
        duration = Duration(seconds=seconds, nanos=nanos)
        say(calls.operations.GetOperation, operations_pb2.GetOperationRequest(name=name))
        say(calls.operations.CancelOperation, operations_pb2.CancelOperationRequest(name=name))
        say(calls.operations.DeleteOperation, operations_pb2.DeleteOperationRequest(name=name))
        say(calls.operations.WaitOperation, operations_pb2.WaitOperationRequest(name=name, timeout=duration))
        say(
            calls.operations.ListOperations,
            operations_pb2.ListOperationsRequest(name=name, filter=text, page_size=size, page_token=token),
        )
        say(calls.jobs.RetryJob, jobs_pb2.RetryJobRequest(name=name, request_id=text))

    failures: list[BaseException] = []

    def run() -> None:
        try:
            fuzz()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert not failures, failures
    assert "" not in reasons
    assert answers <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
