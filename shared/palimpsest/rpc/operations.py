"""The servicers of jobs: google.longrunning.Operations and JobsService, over one store."""

import math
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from palimpsest.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.jobs.async_store import AsyncJobStore
from palimpsest.rpc.calls import call

_NAME = re.compile(r"operations/([A-Za-z0-9_-]{1,64})")
_MARGIN = 0.25
"""Seconds before the caller's deadline at which a wait answers, so that the answer still arrives."""
_LONGEST_WAIT = 600.0
"""Seconds after which a wait answers whatever the caller said; ask again, or watch."""


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


class OperationsServicer(operations_pb2_grpc.OperationsServicer):
    """google.longrunning.Operations; its protos carry no limits, so requests are checked here."""

    def __init__(self, jobs: AsyncJobStore) -> None:
        self._jobs = jobs

    async def GetOperation(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Return the operation as it is now."""
        return (await self._jobs.get(job_id(request.name))).operation()

    async def ListOperations(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Return one page, newest first; filter by state, kind or both."""
        if request.name not in ("", "operations"):
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "name", "must be 'operations' or empty.")
        page = await self._jobs.list(request.filter, request.page_size, request.page_token)
        return operations_pb2.ListOperationsResponse(
            operations=[record.operation() for record in page.records],
            next_page_token=page.next_page_token,
        )

    async def CancelOperation(self, request: Any, context: grpc.aio.ServicerContext) -> Empty:
        """Ask for the end of the job; the operation's error is CANCELLED once it has come."""
        await self._jobs.cancel(job_id(request.name))
        return Empty()

    async def DeleteOperation(self, request: Any, context: grpc.aio.ServicerContext) -> Empty:
        """Forget a finished job and let go of its artefacts."""
        await self._jobs.delete(job_id(request.name))
        return Empty()

    async def WaitOperation(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Return when the job is done, or the timeout or the deadline is near, whichever is first."""
        name = job_id(request.name)
        timeout = math.inf
        if request.HasField("timeout"):
            timeout = request.timeout.seconds + request.timeout.nanos * 1e-9
            if timeout < 0:
                raise InvalidArgument.field(Reason.INVALID_REQUEST, "timeout", "must not be negative.")
        remaining = context.time_remaining()
        if remaining is not None:
            timeout = min(timeout, remaining - _MARGIN)
        timeout = min(timeout, _LONGEST_WAIT)
        return (await self._jobs.wait(name, max(0.0, timeout))).operation()


class JobsServicer(jobs_pb2_grpc.JobsServiceServicer):
    """What google.longrunning lacks: watching and retrying."""

    def __init__(self, jobs: AsyncJobStore) -> None:
        self._jobs = jobs

    async def WatchOperation(
        self, request: jobs_pb2.WatchOperationRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        """Stream the operation each time it changes, to its end."""
        async for record in self._jobs.watch(job_id(request.name), request.since_revision):
            yield record.operation()

    async def RetryJob(
        self, request: jobs_pb2.RetryJobRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a failed or cancelled job again."""
        record = await self._jobs.retry(job_id(request.name), request.request_id, call().principal)
        return record.operation()
