"""The servicers of jobs: google.longrunning.Operations and JobsService, over one store.

A job belongs to the principal who submitted it. :func:`_visible` is the only place that decides who may see and change
a job: its principal, and callers with the scope ``admin.jobs``. To everybody else it does not exist.
"""

import math
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from palimpsest.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.jobs.async_store import AsyncJobStore
from palimpsest.jobs.record import JobRecord, Partial
from palimpsest.jobs.replies import not_found
from palimpsest.rpc.auth import ADMIN_JOBS
from palimpsest.rpc.calls import call

_NAME = re.compile(r"operations/([A-Za-z0-9_-]{1,64})")
_MARGIN = 0.25
"""Seconds before the caller's deadline at which a wait returns, so that the response still arrives in time."""
_LONGEST_WAIT = 600.0
"""Longest wait in seconds, whatever the caller asks for; call again, or watch."""


def job_id(name: str) -> str:
    """Return the id in an operation's name.

    Raises
    ------
    InvalidArgument
        It is not ``operations/<id>``.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            "name",
            "must be 'operations/<id>', as the call that started the job returned it.",
        )
    return match[1]


def _visible(record: JobRecord) -> JobRecord:
    """Return the record if the caller may see and change the job.

    Raises
    ------
    NotFound
        It is another principal's: the same error as for a job that does not exist.
    """
    caller = call()
    if caller.has(ADMIN_JOBS) or record.principal == caller.principal:
        return record
    raise not_found(record.id)


def _seen() -> str | None:
    """Return whose jobs the caller sees in a list; None: everybody's."""
    caller = call()
    return None if caller.has(ADMIN_JOBS) else caller.principal


async def _operation(
    record: JobRecord, jobs: AsyncJobStore, partials: Sequence[Partial] = ()
) -> operations_pb2.Operation:
    """Return the operation of a record, with the reason a queued job waits for and its partial results."""
    metadata = record.metadata()
    if record.state == "QUEUED" and not await jobs.served(record.queue):
        metadata.waiting_reason = (
            f"No live worker serves the queue {record.queue!r} now; the job starts when one does "
            "(PALIMPSEST_WORKER_QUEUES of the worker, PALIMPSEST_JOB_QUEUES of the server)."
        )
    elif record.state == "QUEUED" and (ahead := await jobs.ahead(record)):
        metadata.waiting_reason = (
            f"waiting behind {ahead} job{'' if ahead == 1 else 's'} of the queue {record.queue!r}"
        )
    metadata.partials.extend(partial.message() for partial in partials)
    return record.operation(metadata)


class OperationsServicer(operations_pb2_grpc.OperationsServicer):
    """google.longrunning.Operations; its protos have no limits, so requests are validated here."""

    def __init__(self, jobs: AsyncJobStore) -> None:
        self._jobs = jobs

    async def GetOperation(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Return the operation as it is now."""
        return await _operation(_visible(await self._jobs.get(job_id(request.name))), self._jobs)

    async def ListOperations(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Return one page of the caller's jobs, newest first, filtered by state, kind or both."""
        if request.name not in ("", "operations"):
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "name", "must be 'operations' or empty.")
        page = await self._jobs.list(request.filter, request.page_size, request.page_token, _seen())
        return operations_pb2.ListOperationsResponse(
            operations=[record.operation() for record in page.records],
            next_page_token=page.next_page_token,
        )

    async def CancelOperation(self, request: Any, context: grpc.aio.ServicerContext) -> Empty:
        """Ask the job to stop; once it has, the operation's error is CANCELLED."""
        record = _visible(await self._jobs.get(job_id(request.name)))
        await self._jobs.cancel(record.id)
        return Empty()

    async def DeleteOperation(self, request: Any, context: grpc.aio.ServicerContext) -> Empty:
        """Delete a finished job and release its artefacts."""
        record = _visible(await self._jobs.get(job_id(request.name)))
        await self._jobs.delete(record.id)
        return Empty()

    async def WaitOperation(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Return when the job is done, or when the timeout or the deadline is near, whichever is first."""
        record = _visible(await self._jobs.get(job_id(request.name)))
        timeout = math.inf
        if request.HasField("timeout"):
            timeout = request.timeout.seconds + request.timeout.nanos * 1e-9
            if timeout < 0:
                raise InvalidArgument.field(Reason.INVALID_REQUEST, "timeout", "must not be negative.")
        remaining = context.time_remaining()
        if remaining is not None:
            timeout = min(timeout, remaining - _MARGIN)
        timeout = min(timeout, _LONGEST_WAIT)
        return await _operation(await self._jobs.wait(record.id, max(0.0, timeout)), self._jobs)


class JobsServicer(jobs_pb2_grpc.JobsServiceServicer):
    """Watching and retrying, which google.longrunning lacks."""

    def __init__(self, jobs: AsyncJobStore) -> None:
        self._jobs = jobs

    async def WatchOperation(
        self, request: jobs_pb2.WatchOperationRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        """Stream the operation each time it changes, with new partial results, to its end."""
        name = _visible(await self._jobs.get(job_id(request.name))).id
        since = request.since_partial if request.HasField("since_partial") else None
        async for record in self._jobs.watch(name, request.since_revision, since):
            partials: list[Partial] = []
            if since is not None and record.partials > since:
                partials = await self._jobs.partials(name, since)
                since = max([since, *(partial.sequence for partial in partials)])
            yield await _operation(record, self._jobs, partials)

    async def RetryJob(
        self, request: jobs_pb2.RetryJobRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a failed or cancelled job again."""
        record = _visible(await self._jobs.get(job_id(request.name)))
        record = await self._jobs.retry(record.id, request.request_id, call().principal)
        return await _operation(record, self._jobs)
