"""The state of a request: what was written down of it, and what its job says now.

The job's record is the truth about work that waits or runs; it goes when its retention ends. What has ended is
therefore written into the request, by the job itself or by whoever looks first.
"""

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import NotFound, PalimpsestError, Reason
from palimpsest.jobs import JobRecord
from palimpsest.status import to_status
from services.unlearning.requests.records import RemovalRecord

HELD_SECONDS = 3600.0 * 24 * 3650
"""How long the job of a held request is put off: until it is approved."""
SETTLED = frozenset({pb.REMOVAL_STATE_SUCCEEDED, pb.REMOVAL_STATE_ROLLED_BACK})
"""States that nothing about a job can change."""
ENDED = SETTLED | {pb.REMOVAL_STATE_FAILED, pb.REMOVAL_STATE_CANCELLED}
_OF_JOB = {
    "QUEUED": pb.REMOVAL_STATE_QUEUED,
    "RUNNING": pb.REMOVAL_STATE_RUNNING,
    "FAILED": pb.REMOVAL_STATE_FAILED,
    "CANCELLED": pb.REMOVAL_STATE_CANCELLED,
}


def seen(record: RemovalRecord, job: JobRecord | None) -> RemovalRecord:
    """Return a request in its present state.

    Parameters
    ----------
    record
        As it is stored.
    job
        Its job's record; None: there is none any more.
    """
    stored = record.message.state
    if stored in SETTLED or stored == pb.REMOVAL_STATE_RECEIVED:
        return record
    if job is None:
        return record if stored in ENDED else failed(record, _gone(record))
    if job.state == "SUCCEEDED":
        return record.changed(
            state=pb.REMOVAL_STATE_SUCCEEDED, end_time=_time(job.end_ms), result=_result_of(job)
        )
    if stored == pb.REMOVAL_STATE_HELD and job.state == "QUEUED":
        return record
    now = record.changed(state=_OF_JOB[job.state], end_time=None, error=None)
    if job.terminal:
        now = now.changed(end_time=_time(job.end_ms))
        if job.state == "FAILED" and job.error is not None:
            now = now.changed(error=to_status(job.error))
    return now


def failed(record: RemovalRecord, error: PalimpsestError) -> RemovalRecord:
    """Return a request as it is after an error; as cancelled, if that is the error."""
    if error.reason == Reason.JOB_CANCELLED:
        return record.changed(state=pb.REMOVAL_STATE_CANCELLED, end_time=now_stamp(), error=None)
    return record.changed(state=pb.REMOVAL_STATE_FAILED, end_time=now_stamp(), error=to_status(error))


def ended(record: RemovalRecord) -> bool:
    """Whether a request, as ``seen`` returned it, is over."""
    return record.message.state in ENDED


def can_go_on(record: RemovalRecord) -> bool:
    """Whether a request failed for want of room alone, so that its job, tried again, goes on from what it had made."""
    message = record.message
    return message.state == pb.REMOVAL_STATE_FAILED and message.error.code == code_pb2.Code.RESOURCE_EXHAUSTED


def now_stamp() -> Timestamp:
    """The present time."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def _time(milliseconds: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(milliseconds)
    return stamp


def _result_of(job: JobRecord) -> pb.Result:
    message = job.response_message()
    assert isinstance(message, pb.RemovalRequest)
    return message.result


def _gone(record: RemovalRecord) -> NotFound:
    message = (
        f"The job of {record.message.name} was deleted before it ended, or its record has expired. Send the request "
        "again under another id."
    )
    return NotFound(Reason.JOB_NOT_FOUND, message)
