"""What has become of a batch: its job's state in OpenAI's words, and the job's results as its files."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, cast

from palimpsest import json_input
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.client.aio.jobs import metadata_of
from palimpsest.client.methods import unpack
from palimpsest.errors import NotFound
from palimpsest.status import from_status
from services.gateway.backend import Rooms
from services.gateway.batches.records import BatchRecord, Stored, bytes_of, lines_of
from services.gateway.batches.results import converted
from services.gateway.errors import ApiError, from_rooms

Json = dict[str, Any]
Kind = Literal["output", "errors"]
_WINDOW = 24 * 3600
_RESULT_LINE = 1 << 30
"""Largest line of a job's result that is read; it has at most 64 texts of one prompt."""
_STATUS = {
    jobs_pb2.JOB_STATE_QUEUED: "validating",
    jobs_pb2.JOB_STATE_RUNNING: "in_progress",
    jobs_pb2.JOB_STATE_SUCCEEDED: "completed",
    jobs_pb2.JOB_STATE_FAILED: "failed",
    jobs_pb2.JOB_STATE_CANCELLED: "cancelled",
}
ENDED = {"completed", "failed", "cancelled", "expired"}


@dataclass(frozen=True)
class Batch:
    """A batch with its job as it is now.

    Attributes
    ----------
    results
        Digests of the result so far, in order.
    error
        Why the job failed.
    """

    record: BatchRecord
    stored: Stored
    status: str
    job: jobs_pb2.JobMetadata
    results: tuple[str, ...] = ()
    response: pb.GenerateBatchResponse | None = None
    error: ApiError | None = None

    @property
    def end(self) -> int | None:
        """When it ended, in seconds since 1970."""
        return self.job.end_time.seconds or None


async def batch_of(rooms: Rooms, record: BatchRecord, stored: Stored) -> Batch:
    """Ask for the job; one whose record has been deleted is expired."""
    try:
        operation = await rooms.jobs.get(record.operation)
    except NotFound:
        return Batch(record, stored, "expired", jobs_pb2.JobMetadata())
    job = metadata_of(operation)
    status = _STATUS.get(job.state, "in_progress")
    if job.cancel_requested and status not in ENDED:
        status = "cancelling"
    if status == "completed":
        response = cast(pb.GenerateBatchResponse, unpack(operation.response))
        return Batch(record, stored, status, job, (response.output.digest,), response)
    error = from_rooms(from_status(operation.error)) if status == "failed" else None
    results = tuple(job.artifacts) if status in ENDED else ()
    return Batch(record, stored, status, job, results, error=error)


async def shown(rooms: Rooms, batch: Batch) -> Json:
    """A batch in OpenAI's form."""
    record, job, status = batch.record, batch.job, batch.status
    succeeded, failed = await _counts(rooms, batch)
    errors = batch.error
    listed = errors and [{"code": errors.code, "message": errors.message, "param": None, "line": None}]
    ended = status in ENDED and status != "expired"
    return {
        "id": batch.stored.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": {"object": "list", "data": listed} if listed else None,
        "input_file_id": record.input_file_id,
        "completion_window": "24h",
        "status": status,
        "output_file_id": file_id_of(batch, "output") if ended and succeeded else None,
        "error_file_id": file_id_of(batch, "errors") if ended and failed else None,
        "created_at": record.created_at,
        "in_progress_at": job.start_time.seconds or None,
        "expires_at": record.created_at + _WINDOW,
        "finalizing_at": None,
        "completed_at": batch.end if status == "completed" else None,
        "failed_at": batch.end if status == "failed" else None,
        "expired_at": None,
        "cancelling_at": job.update_time.seconds if status == "cancelling" else None,
        "cancelled_at": batch.end if status == "cancelled" else None,
        "request_counts": {"total": record.lines, "completed": succeeded, "failed": failed},
        "metadata": record.metadata,
    }


async def _counts(rooms: Rooms, batch: Batch) -> tuple[int, int]:
    """Lines that were answered, and those that failed; what a running job has finished counts as answered."""
    refused = batch.record.refused
    if batch.response is not None:
        return batch.response.succeeded, batch.response.failed + refused
    if batch.status not in ENDED:
        return batch.job.done, refused
    counts = {True: 0, False: refused}
    async with aclosing(_results(rooms, batch)) as results:
        async for result in results:
            counts["outputs" in result] += 1
    return counts[True], counts[False]


def file_id_of(batch: Batch, kind: Kind) -> str:
    """The id of a file that is made of a batch's results when it is read."""
    return f"file-{kind}-{batch.stored.id.removeprefix('batch_')}"


def named(file_id: str) -> tuple[str, Kind] | None:
    """The batch's id, and which of its files this is; None: it is none of these."""
    for kind in ("output", "errors"):
        prefix = f"file-{kind}-"
        if file_id.startswith(prefix):
            return f"batch_{file_id.removeprefix(prefix)}", kind
    return None


async def content_of(rooms: Rooms, batch: Batch, kind: Kind) -> AsyncGenerator[bytes, None]:
    """The lines of a batch's file, in parts; the same bytes each time."""
    if kind == "errors" and batch.stored.size:
        async with aclosing(bytes_of(rooms.artifacts, batch.stored.digest, batch.stored.begins)) as parts:
            async for part in parts:
                yield part
    async with aclosing(_results(rooms, batch)) as results:
        async for result in results:
            if ("outputs" in result) == (kind == "output"):
                yield converted(batch.record, result)


async def _results(rooms: Rooms, batch: Batch) -> AsyncGenerator[Json, None]:
    """The job's results. An attempt that crashed may have published lines that the next one published again."""
    last = -1
    for digest in batch.results:
        async with aclosing(lines_of(rooms.artifacts, digest)) as lines:
            async for line in lines:
                result = json_input.decode(line, max_bytes=_RESULT_LINE, strict=False)
                if result["index"] > last:
                    last = result["index"]
                    yield result
