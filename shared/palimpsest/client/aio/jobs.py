"""Jobs as objects: wait for the result, follow progress and partial results, cancel, come back later."""

import time
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar, cast

from google.longrunning import operations_pb2

from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.client.aio.concurrency import pause
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.methods import Method, unpack
from palimpsest.client.partials import PartialResult, partial_of
from palimpsest.client.patience import Patience
from palimpsest.errors import DeadlineExceeded, PalimpsestError, Reason
from palimpsest.status import from_status

T_co = TypeVar("T_co", covariant=True)

_WATCH = Method.named("palimpsest.api.jobs.v1.JobsService.WatchOperation")
_GET = Method.named("google.longrunning.Operations.GetOperation")
_CANCEL = Method.named("google.longrunning.Operations.CancelOperation")


class AsyncJob(Generic[T_co]):
    """A handle on queued work; T is the type of its result.

    The work belongs to the server: dropping the handle stops nothing, and ``client.job(name)`` makes a new one, in any
    process. Iterating yields a ``JobMetadata`` now and after every change until the end, with the partial results that
    are new. Waiting and iterating continue through a restart of the server and miss no change.
    """

    def __init__(self, connection: AsyncConnection, operation: operations_pb2.Operation) -> None:
        self._connection = connection
        self._operation = operation

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        """``operations/{id}``; give it to ``client.job()`` to come back."""
        return self._operation.name

    async def progress(self) -> jobs_pb2.JobMetadata:
        """Return the job's metadata as the server has it now.

        Raises
        ------
        NotFound
            The job was deleted or its retention has passed.
        """
        return metadata_of(await self._refresh())

    async def done(self) -> bool:
        """Return whether the job has ended, with a result or with an error."""
        return (await self._refresh()).done

    async def cancel(self) -> None:
        """Request cancellation and return at once; the job ends CANCELLED when it next checks for it."""
        await self._connection.unary(_CANCEL, operations_pb2.CancelOperationRequest(name=self.name))

    async def wait(self, timeout: float | None = None) -> operations_pb2.Operation:
        """Return the operation once it has ended, whether with a response or with an error.

        Raises
        ------
        DeadlineExceeded
            Not within timeout seconds; the job goes on.
        """
        if not self._operation.done:
            async for _ in self._changes(timeout):
                pass
        return self._operation

    async def result(self, timeout: float | None = None) -> T_co:
        """Return the job's response once it has ended well.

        Raises
        ------
        DeadlineExceeded
            The job did not end within timeout seconds; it goes on, and result() may be called again.
        PalimpsestError
            The job failed (the class and reason are the job's own) or was cancelled (Cancelled).
        """
        operation = await self.wait(timeout)
        if operation.HasField("error"):
            raise from_status(operation.error)
        return cast(T_co, unpack(operation.response))

    async def __aiter__(self) -> AsyncIterator[jobs_pb2.JobMetadata]:
        async for operation in self._changes(None, 0):
            yield metadata_of(operation)

    async def partials(self, *, since: int = 0, timeout: float | None = None) -> AsyncIterator[PartialResult]:
        """Yield the partial results as they are published, in order and each once, until the job has ended.

        Ends when the job does, however it does; ``result()`` tells how.

        Parameters
        ----------
        since
            Sequence number of the last one seen; 0 for all that the server still has.
        timeout
            Seconds within which the job has to end; None for no limit.

        Raises
        ------
        DeadlineExceeded
            The job did not end within timeout seconds; it goes on.
        """
        async for operation in self._changes(timeout, since):
            for partial in metadata_of(operation).partials:
                yield partial_of(partial)

    async def _refresh(self) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=self.name)
        self._operation = await self._connection.unary(_GET, request)
        return self._operation

    async def _changes(
        self, timeout: float | None, since_partial: int | None = None
    ) -> AsyncIterator[operations_pb2.Operation]:
        end = None if timeout is None else time.monotonic() + timeout
        revision = 0
        patience = Patience()
        while True:
            left = None if end is None else max(end - time.monotonic(), 0.001)
            request = jobs_pb2.WatchOperationRequest(
                name=self.name, since_revision=revision, since_partial=since_partial
            )
            delay = 0.1
            try:
                async with self._connection.stream(_WATCH, request, left) as stream:
                    async for operation in stream:
                        patience.progressed()
                        self._operation = operation
                        seen = metadata_of(operation)
                        revision = seen.revision
                        if seen.partials:
                            since_partial = seen.partials[-1].sequence
                        yield operation
                        if operation.done:
                            return
            except PalimpsestError as error:
                if end is not None and isinstance(error, DeadlineExceeded):
                    raise self._late(timeout) from None
                delay = patience.pause(error)
            if end is not None and time.monotonic() + delay > end:
                raise self._late(timeout)
            await pause(delay)

    def _late(self, timeout: float | None) -> DeadlineExceeded:
        seen = metadata_of(self._operation)
        state = jobs_pb2.JobState.Name(seen.state).removeprefix("JOB_STATE_")
        return DeadlineExceeded(
            Reason.DEADLINE_EXCEEDED,
            f"{self.name} has not ended within {timeout:g} s (last seen {state}, {seen.fraction:.0%} done). "
            f"{seen.waiting_reason or 'It goes on: wait again, or cancel it.'}",
            metadata={"name": self.name, "state": state},
        )


def metadata_of(operation: operations_pb2.Operation) -> jobs_pb2.JobMetadata:
    """Return the typed metadata of a job's operation; empty for a handle that has not called the server yet."""
    metadata = jobs_pb2.JobMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


Anything = AsyncJob[Any]
"""A job whose result type only the server knows."""
