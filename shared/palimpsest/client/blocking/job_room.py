"""The jobs room: the caller's jobs, whichever client started them."""

# Made from client/aio/job_room.py by deploy/client.py; edit that.

from typing import Any

from google.longrunning import operations_pb2

from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.client.blocking.jobs import Anything, Job
from palimpsest.client.blocking.listing import Listing
from palimpsest.client.blocking.rooms import JobsRoom
from palimpsest.client.methods import Method
from palimpsest.client.requests import build

_OPERATIONS = "google.longrunning.Operations"
_LIST = Method.named(f"{_OPERATIONS}.ListOperations")
_GET = Method.named(f"{_OPERATIONS}.GetOperation")
_CANCEL = Method.named(f"{_OPERATIONS}.CancelOperation")
_DELETE = Method.named(f"{_OPERATIONS}.DeleteOperation")
_RETRY = Method.named("palimpsest.api.jobs.v1.JobsService.RetryJob")


class Jobs(JobsRoom):
    """The standard operations verbs, by job name (``operations/{id}``)."""

    def get(self, name: str) -> operations_pb2.Operation:
        """Return a job's operation as it is now.

        Raises
        ------
        NotFound
            No such job, its retention has passed, or it is another caller's.
        """
        return self._connection.unary(_GET, operations_pb2.GetOperationRequest(name=name))

    def list(
        self, *, filter: str = "", page_size: int = 0, page_token: str = ""
    ) -> Listing[operations_pb2.Operation]:
        """Return one page of the caller's jobs, newest first; it iterates over all that follow, too.

        Parameters
        ----------
        filter
            Such as ``state=RUNNING`` or ``kind=decoding.generate_batch``; empty for all.
        page_size, page_token
            As in every list method.
        """

        def turn(token: str) -> Any:
            following = operations_pb2.ListOperationsRequest(
                name="operations", filter=filter, page_size=page_size, page_token=token
            )
            return self._connection.unary(_LIST, following)

        return Listing(turn(page_token), "operations", turn)

    def cancel(self, name: str) -> None:
        """Request a job's cancellation; a job that has ended is not changed."""
        self._connection.unary(_CANCEL, operations_pb2.CancelOperationRequest(name=name))

    def delete(self, name: str) -> None:
        """Delete a finished job and release its artefacts.

        Raises
        ------
        FailedPrecondition
            The job has not ended; cancel it first.
        """
        self._connection.unary(_DELETE, operations_pb2.DeleteOperationRequest(name=name))

    def wait(self, name: str, timeout: float | None = None) -> operations_pb2.Operation:
        """Return the operation once the job has ended, with a result or with an error.

        Raises
        ------
        DeadlineExceeded
            Not within timeout seconds; the job goes on.
        """
        return Job(self._connection, operations_pb2.Operation(name=name)).wait(timeout)

    def retry(self, name: str, *, request_id: str | None = None) -> Anything:
        """Queue a failed or cancelled job again, from its last checkpoint.

        Raises
        ------
        FailedPrecondition
            The job is queued, running or has succeeded.
        """
        fields = {"name": name, "request_id": request_id}
        request = build(jobs_pb2.RetryJobRequest, fields, "retry()")
        return Job(self._connection, self._connection.unary(_RETRY, request))
