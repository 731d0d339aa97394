"""The job record: what a submission holds, what the store keeps of it, and the Operation it is shown as."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.errors import FailedPrecondition, PalimpsestError, Reason, Violation, from_code
from palimpsest.jobs.payload import from_json
from palimpsest.status import to_status

if TYPE_CHECKING:
    # the generated class is not visible to type checkers through the re-export
    from google.longrunning.operations_proto_pb2 import Operation
else:
    Operation = operations_pb2.Operation

SCHEMA = 1
"""Version of the record this code writes; it refuses records with a newer one (see transitions.lua)."""

STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
TERMINAL = frozenset(STATES[2:])


class Partial(NamedTuple):
    """One partial result, as the store keeps it.

    Attributes
    ----------
    sequence
        1 for the job's first, then one more for each.
    type_name, value
        Full name of the message's type, and its serialised bytes.
    attempt
        The attempt that published it.
    create_ms
        Milliseconds since 1970 by Redis's clock.
    """

    sequence: int
    type_name: str
    value: bytes
    attempt: int
    create_ms: int

    @classmethod
    def parse(cls, sequence: int, entry: bytes | str) -> "Partial":
        """Read an entry of the job's list."""
        fields = json.loads(entry)
        value = base64.b64decode(fields["value"])
        return cls(sequence, fields["type"], value, int(fields["attempt"]), int(fields["ms"]))

    def message(self) -> jobs_pb2.PartialResult:
        """Return it as callers see it; the server need not know the type."""
        packed = Any(type_url=f"type.googleapis.com/{self.type_name}", value=self.value)
        return jobs_pb2.PartialResult(
            sequence=self.sequence, value=packed, attempt=self.attempt, create_time=_timestamp(self.create_ms)
        )


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One reading of a job's record. Times are milliseconds since 1970 by Redis's clock; 0 means never."""

    id: str
    kind: str
    queue: str
    state: str
    revision: int
    seq: int = 0
    principal: str = ""
    trace: str = field(default="{}", repr=False)
    request_type: str = ""
    request: str = field(default="{}", repr=False)
    response_type: str = ""
    response: str = field(default="", repr=False)
    error_json: str = field(default="", repr=False)
    action: str = ""
    inputs: tuple[str, ...] = ()
    attempt: int = 0
    max_attempts: int = 0
    owner: str = ""
    worker: str = ""
    cancel_requested: bool = False
    stage: str = ""
    done: int = 0
    total: int = 0
    fraction: float = 0.0
    checkpoint: str = field(default="", repr=False)
    artifacts: tuple[str, ...] = ()
    partials: int = 0
    lease_ms: int = 0
    create_ms: int = 0
    start_ms: int = 0
    update_ms: int = 0
    end_ms: int = 0
    expire_ms: int = 0

    @classmethod
    def parse(cls, flat: Sequence[bytes | str] | Mapping[bytes, bytes]) -> "JobRecord":
        """Read the fields of the Redis hash; unknown fields are ignored, missing ones have their default.

        Raises
        ------
        FailedPrecondition
            A newer version of the server wrote the record.
        """
        items = flat.items() if isinstance(flat, Mapping) else zip(flat[::2], flat[1::2], strict=True)
        fields = {_text(name): _text(value) for name, value in items}
        if int(fields.get("v", SCHEMA)) > SCHEMA:
            raise newer(fields.get("id", "?"))

        def number(name: str) -> int:
            return int(float(fields.get(name) or 0))

        return cls(
            id=fields["id"],
            kind=fields["kind"],
            queue=fields["queue"],
            state=fields["state"],
            revision=number("revision"),
            seq=number("seq"),
            principal=fields.get("principal", ""),
            trace=fields.get("trace") or "{}",
            request_type=fields.get("request_type", ""),
            request=fields.get("request", "{}"),
            response_type=fields.get("response_type", ""),
            response=fields.get("response", ""),
            error_json=fields.get("error", ""),
            action=fields.get("action", ""),
            inputs=tuple(fields.get("inputs", "").split()),
            attempt=number("attempt"),
            max_attempts=number("max_attempts"),
            owner=fields.get("owner", ""),
            worker=fields.get("worker", ""),
            cancel_requested=fields.get("cancel", "") == "1",
            stage=fields.get("stage", ""),
            done=number("done"),
            total=number("total"),
            fraction=float(fields.get("fraction") or 0.0),
            checkpoint=fields.get("checkpoint", ""),
            artifacts=tuple(fields.get("artifacts", "").split()),
            partials=number("partials"),
            lease_ms=number("lease_ms"),
            create_ms=number("create_ms"),
            start_ms=number("start_ms"),
            update_ms=number("update_ms"),
            end_ms=number("end_ms"),
            expire_ms=number("expire_ms"),
        )

    @property
    def name(self) -> str:
        """Name of the operation, ``"operations/<id>"``."""
        return f"operations/{self.id}"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended; only a retry changes the record after that."""
        return self.state in TERMINAL

    @property
    def error(self) -> PalimpsestError | None:
        """Why the job FAILED or was CANCELLED."""
        return error_from_json(self.error_json) if self.error_json else None

    def request_message(self) -> Message:
        """Return the request the job was submitted with."""
        return from_json(self.request_type, self.request)

    def response_message(self) -> Message:
        """Return the result of a SUCCEEDED job."""
        return from_json(self.response_type, self.response)

    def metadata(self) -> jobs_pb2.JobMetadata:
        """Return the JobMetadata that every Operation carries."""
        return jobs_pb2.JobMetadata(
            state=f"JOB_STATE_{self.state}",
            kind=self.kind,
            queue=self.queue,
            stage="" if self.state == "SUCCEEDED" else self.stage,
            fraction=1.0 if self.state == "SUCCEEDED" else self.fraction,
            done=self.done,
            total=self.total,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            create_time=_timestamp(self.create_ms),
            start_time=_timestamp(self.start_ms),
            update_time=_timestamp(self.update_ms),
            end_time=_timestamp(self.end_ms),
            expire_time=_timestamp(self.expire_ms),
            worker=self.worker,
            action_digest=self.action,
            cancel_requested=self.cancel_requested and not self.terminal,
            revision=self.revision,
            artifacts=self.artifacts,
        )

    def operation(self, metadata: jobs_pb2.JobMetadata | None = None) -> Operation:
        """Return the record as callers see it: metadata always, a response or an error once it is done.

        Parameters
        ----------
        metadata
            This record's, with what the caller adds to it; None: as it is.
        """
        operation = Operation(name=self.name, done=self.terminal)
        operation.metadata.Pack(self.metadata() if metadata is None else metadata)
        if self.state == "SUCCEEDED":
            operation.response.Pack(self.response_message())
        elif self.terminal and self.error is not None:
            operation.error.CopyFrom(to_status(self.error))
        return operation

    @property
    def create_time(self) -> datetime:
        """When the job was recorded."""
        return datetime.fromtimestamp(self.create_ms / 1000, UTC)


def newer(job_id: str) -> FailedPrecondition:
    """Build the error for a record that a newer version wrote."""
    return FailedPrecondition(
        Reason.JOB_RECORD_NEWER,
        f"The record of job {job_id} was written by a newer version; ask an upgraded server.",
        metadata={"job": job_id, "schema": SCHEMA},
    )


def error_to_json(error: PalimpsestError) -> str:
    """Return an error as the record keeps it: everything a caller gets to see, without a stack trace."""
    return json.dumps(
        {
            "code": int(error.code),
            "reason": error.reason,
            "message": error.message[:2000],
            "metadata": error.metadata,
            "violations": [list(violation) for violation in error.violations[:32]],
            "retry_after": error.retry_after,
        },
        ensure_ascii=False,
    )


def error_from_json(text: str) -> PalimpsestError:
    """Return the error that error_to_json, or a transition, wrote."""
    value = json.loads(text)
    return from_code(
        value["code"],
        value["reason"],
        value["message"],
        metadata=value.get("metadata"),
        violations=[Violation(*pair) for pair in value.get("violations", ())],
        retry_after=value.get("retry_after"),
    )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _timestamp(milliseconds: int) -> Timestamp | None:
    if not milliseconds:
        return None
    timestamp = Timestamp()
    timestamp.FromMilliseconds(milliseconds)
    return timestamp
