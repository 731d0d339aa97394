"""The job record: what a caller asks for, what is remembered of it, and the Operation it is shown as."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.errors import FailedPrecondition, PalimpsestError, Reason, Violation, from_code
from palimpsest.jobs.payload import from_json

if TYPE_CHECKING:
    # the generated class is not visible to type checkers through the re-export
    from google.longrunning.operations_proto_pb2 import Operation
else:
    Operation = operations_pb2.Operation

SCHEMA = 1
"""Version of the record this code writes; it refuses records with a newer one (see transitions.lua)."""

STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
TERMINAL = frozenset(STATES[2:])


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Work to be queued.

    Attributes
    ----------
    kind
        Which handler runs it, ``"room.verb"``.
    request
        Handed to the handler as it is.
    queue
        ``"cpu"`` or ``"gpu"``.
    inputs
        Digests of artefacts the job needs; kept while the job's record is.
    action
        Everything that decides the result (parameters, input digests, model fingerprint, format version), as
        JSON-able data: equal actions are done once. None: every submission runs.
    request_id, principal
        The same id from the same principal for the same kind is the same submission.
    max_attempts
        Claims before a job whose worker dies is given up; None for the server's setting.
    execution_timeout
        Longest run of one attempt in seconds; None for no limit.
    skip_cache
        Run even if an equal action was done; the new result replaces the old one for later callers.
    delay
        Seconds before the first attempt.
    """

    kind: str
    request: Message
    queue: str = "cpu"
    inputs: Sequence[str] = ()
    action: Mapping[str, object] | None = None
    request_id: str = ""
    principal: str = ""
    max_attempts: int | None = None
    execution_timeout: float | None = None
    skip_cache: bool = False
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One reading of a job's record. Times are milliseconds since 1970 by Redis's clock; 0 is never."""

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
    lease_ms: int = 0
    create_ms: int = 0
    start_ms: int = 0
    update_ms: int = 0
    end_ms: int = 0
    expire_ms: int = 0

    @classmethod
    def parse(cls, flat: Sequence[bytes | str] | Mapping[bytes, bytes]) -> "JobRecord":
        """Read the fields of the Redis hash; unknown ones are ignored, missing ones have their default.

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
        """Nothing but a retry changes the record any more."""
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
        """Return the JobMetadata every Operation carries."""
        return jobs_pb2.JobMetadata(
            state=f"JOB_STATE_{self.state}",
            kind=self.kind,
            queue=self.queue,
            stage=self.stage,
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

    def operation(self) -> Operation:
        """Return the record as callers see it: metadata always, response or error once it is done."""
        operation = Operation(name=self.name, done=self.terminal)
        operation.metadata.Pack(self.metadata())
        if self.state == "SUCCEEDED":
            operation.response.Pack(self.response_message())
        elif self.terminal and self.error is not None:
            from palimpsest.status import to_status  # rpc's scaffold imports this package

            operation.error.CopyFrom(to_status(self.error))
        return operation

    @property
    def create_time(self) -> datetime:
        """When the job was recorded."""
        return datetime.fromtimestamp(self.create_ms / 1000, UTC)


def newer(job_id: str) -> FailedPrecondition:
    """Build the refusal of a record that a newer version wrote."""
    return FailedPrecondition(
        Reason.JOB_RECORD_NEWER,
        f"The record of job {job_id} was written by a newer version; ask an upgraded server.",
        metadata={"job": job_id, "schema": SCHEMA},
    )


def error_to_json(error: PalimpsestError) -> str:
    """Write an error the way the record keeps it; everything a caller gets to see, and no stack trace."""
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
    """Read what error_to_json, or a transition, wrote."""
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
