"""The transitions as calls: arguments in, typed answers or errors out, for the blocking and the asyncio store."""

import hashlib
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Generic, NamedTuple, TypeVar

from palimpsest.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PalimpsestError,
    Reason,
    ResourceExhausted,
)
from palimpsest.jobs.listing import Page, Query, encode_token
from palimpsest.jobs.payload import canonical_digest, checked, request_digest, to_json
from palimpsest.jobs.record import JobRecord, JobSpec, error_to_json, newer
from palimpsest.settings import Settings
from palimpsest.telemetry.tracing import inject

T = TypeVar("T")
Reply = Sequence[Any]

_IDEMPOTENCY_MS = 7 * 24 * 3600 * 1000
_SWEEP_LIMIT = 100
"""Members of each index one sweep looks at; Redis does nothing else meanwhile."""


@cache
def script(grows: bool) -> str:
    """Return transitions.lua, marked for Redis: a transition that grows the store is refused when it is full.

    The refusal comes before the first write. All others go through, so that a full store still finishes,
    expires and deletes jobs.
    """
    body = files("palimpsest.jobs").joinpath("transitions.lua").read_text()
    return ("#!lua flags=\n" if grows else "#!lua flags=allow-oom\n") + body


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One run of transitions.lua: which transition, its arguments, and how to read the reply."""

    transition: str
    arguments: Mapping[str, object]
    parse: Callable[[str, Reply], T]
    grows: bool = False
    durable: bool = False

    def read(self, reply: Reply) -> T:
        """Turn the script's reply into the answer, or raise what it stands for."""
        word = _text(reply[0])
        if word == "newer":
            raise newer(_text(reply[1]))
        return self.parse(word, reply[1:])


class Claim(NamedTuple):
    """What a heartbeat and a finish are fenced with: the run they speak for."""

    job_id: str
    attempt: int
    owner: str
    worker: str


class Beat(NamedTuple):
    """Answer to a heartbeat."""

    lost: bool
    cancel: bool
    drain: bool


class QueueStats(NamedTuple):
    """How a queue stands: jobs waiting and running, and seconds the oldest has waited."""

    queued: int
    running: int
    age: float


class Stats(NamedTuple):
    """Counters since ever (see transitions.lua) and the state of each queue."""

    counters: dict[str, int]
    queues: dict[str, QueueStats]


class Sweep(NamedTuple):
    """What one sweep did, and the (job id, queue) pairs to announce."""

    lapsed: int
    timed_out: int
    forgotten: int
    hints: list[tuple[str, str]]


def submit(spec: JobSpec, settings: Settings) -> Call[JobRecord]:
    """Record a job, or find the one this request or this action already has."""
    if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", spec.kind):
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "kind", f"{spec.kind!r} is not 'room.verb'.")
    timeout = spec.execution_timeout
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, "execution_timeout", "must be a positive number of seconds."
        )
    digest = request_digest(spec.kind, spec.request)
    action = "" if spec.action is None else canonical_digest({"kind": spec.kind, "action": dict(spec.action)})
    arguments = {
        "id": uuid.uuid4().hex,
        "kind": spec.kind,
        "queue": spec.queue,
        "principal": spec.principal,
        "request_type": spec.request.DESCRIPTOR.full_name,
        "request": to_json(spec.request),
        "inputs": list(dict.fromkeys(spec.inputs)),
        "action": action,
        "trace": json.dumps(inject()),
        "skip_cache": spec.skip_cache,
        "max_attempts": spec.max_attempts or settings.job_max_attempts,
        "timeout_ms": round(1000 * (timeout or 0)),
        "delay_ms": round(1000 * spec.delay),
        "retention_ms": settings.job_retention_seconds * 1000,
        **_idempotency(spec.kind, spec.principal, spec.request_id, digest),
        **_limit(settings),
    }
    return Call("submit", arguments, _record_or_refusal, grows=True, durable=True)


def retry(job_id: str, request_id: str, principal: str, settings: Settings) -> Call[JobRecord]:
    """Queue a FAILED or CANCELLED job again, its attempts counted from zero."""
    arguments = {
        "id": job_id,
        **_idempotency("retry", principal, request_id, job_id),
        **_limit(settings),
    }
    return Call("retry", arguments, _record_or_refusal, grows=True, durable=True)


def cancel(job_id: str) -> Call[JobRecord]:
    """End a queued job, ask a running one to stop, leave a finished one alone."""
    return Call("cancel", {"id": job_id}, _record_or_refusal)


def delete(job_id: str) -> Call[None]:
    """Forget a finished job and its references."""

    def parse(word: str, rest: Reply) -> None:
        if word == "refused":
            raise FailedPrecondition(
                Reason.JOB_NOT_FINISHED,
                f"Job {job_id} is {_text(rest[0])}: only finished jobs are deleted; cancel it first.",
            )
        if word == "missing":
            raise not_found(job_id)

    return Call("delete", {"id": job_id}, parse)


def list_page(query: Query) -> Call[Page]:
    """One page of records, newest first."""

    def parse(_word: str, rest: Reply) -> Page:
        records = [JobRecord.parse(flat) for flat in rest[1:]]
        more = bool(rest[0]) and bool(records)
        return Page(records, encode_token(query, records[-1].seq) if more else "")

    arguments = {"kind": query.kind, "state": query.state, "limit": query.page_size, "before": query.before}
    return Call("list", arguments, parse)


def claim(job_id: str, owner: str, worker: str, settings: Settings) -> Call[JobRecord | None]:
    """Take a queued job for one run; None if it is not to be had (running, finished, gone, not yet due)."""
    arguments = {"id": job_id, "owner": owner, "worker": worker, **_lease(settings)}
    return Call("claim", arguments, lambda word, rest: JobRecord.parse(rest[0]) if word == "ok" else None)


def heartbeat(run: Claim, progress: Mapping[str, object] | None, settings: Settings) -> Call[Beat]:
    """Renew the lease, bring progress out and wishes in."""
    arguments = {**_fence(run), **_lease(settings)}
    if progress is not None:
        arguments["progress"] = dict(progress)

    def parse(word: str, rest: Reply) -> Beat:
        if word != "ok":
            return Beat(lost=True, cancel=False, drain=False)
        return Beat(lost=False, cancel=_text(rest[0]) == "1", drain=_text(rest[1]) == "1")

    return Call("heartbeat", arguments, parse)


def checkpoint(run: Claim, state: Mapping[str, object]) -> Call[bool]:
    """Store what a later attempt resumes from; False if the run is lost."""
    text = checked(json.dumps(state, ensure_ascii=False), "The checkpoint")
    return Call("checkpoint", {**_fence(run), "checkpoint": text}, _held, grows=True)


def publish(run: Claim, digest: str) -> Call[bool]:
    """Refer the job to an artefact; False if the run is lost."""

    def parse(word: str, rest: Reply) -> bool:
        if word == "collecting":
            raise _collecting(_text(rest[0]))
        return word == "ok"

    return Call("publish", {**_fence(run), "digest": digest}, parse, grows=True)


def succeed(run: Claim, response_type: str, response: str, progress: Mapping[str, object]) -> Call[bool]:
    """End the run with a result; False if the run is lost and the result is refused."""
    fields = {"response_type": response_type, "response": response, **progress}
    return Call("finish", {**_fence(run), "state": "SUCCEEDED", "fields": fields}, _held)


def fail(run: Claim, error: PalimpsestError) -> Call[bool]:
    """End the run with an error, as CANCELLED if that is what it says; False if the run is lost."""
    state = "CANCELLED" if error.reason == Reason.JOB_CANCELLED else "FAILED"
    fields = {"error": error_to_json(error)}
    return Call("finish", {**_fence(run), "state": state, "fields": fields}, _held)


def release(run: Claim) -> Call[bool]:
    """Give the job back to the queue without counting the attempt; False if the run is lost."""
    return Call("release", _fence(run), _held)


def sweep(*, lapse: bool) -> Call[Sweep]:
    """Do what is due: end leases (if lapse), time limits and retention; say which jobs to announce."""

    def parse(_word: str, rest: Reply) -> Sweep:
        names = [_text(value) for value in rest[3:]]
        return Sweep(*(int(n) for n in rest[:3]), hints=list(zip(names[::2], names[1::2], strict=True)))

    return Call("sweep", {"lapse": lapse, "limit": _SWEEP_LIMIT}, parse)


def stats(queues: Sequence[str]) -> Call[Stats]:
    """Count for the metrics."""

    def parse(_word: str, rest: Reply) -> Stats:
        flat = [_text(value) for value in rest[0]]
        counters = {name: int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        rows = [
            QueueStats(int(q), int(r), int(ms) / 1000) for q, r, ms in zip(*[iter(rest[1:])] * 3, strict=True)
        ]
        return Stats(counters, dict(zip(queues, rows, strict=True)))

    return Call("stats", {"queues": list(queues)}, parse)


def not_found(job_id: str) -> NotFound:
    """Build the error for a job nobody remembers."""
    return NotFound(
        Reason.JOB_NOT_FOUND,
        f"There is no job {job_id}; it was never submitted, was deleted, or its retention has passed.",
        metadata={"job": job_id},
    )


def _record_or_refusal(word: str, rest: Reply) -> JobRecord:
    if word == "ok":
        return JobRecord.parse(rest[0])
    if word == "reused":
        raise InvalidArgument.field(
            Reason.REQUEST_ID_REUSED,
            "request_id",
            f"was used before, for job {_text(rest[0])}, with another request; choose a new one.",
        )
    if word == "full":
        raise ResourceExhausted(
            Reason.JOB_QUEUE_FULL, "The queue is full; send the same request again later.", retry_after=10
        )
    if word == "quota":
        raise ResourceExhausted(
            Reason.QUOTA_EXCEEDED,
            "You have as many jobs waiting as you may; send the same request again when some have run.",
            retry_after=10,
        )
    if word == "collecting":
        raise _collecting(_text(rest[0]))
    if word == "refused":
        raise FailedPrecondition(
            Reason.JOB_NOT_RETRYABLE,
            f"The job is {_text(rest[0])}; only FAILED and CANCELLED jobs are retried.",
        )
    raise NotFound(Reason.JOB_NOT_FOUND, "There is no such job; it was deleted, or its retention has passed.")


def _collecting(digest: str) -> NotFound:
    return NotFound(
        Reason.ARTIFACT_NOT_FOUND,
        f"{digest} is being deleted by garbage collection; upload it again.",
        metadata={"digest": digest},
    )


def _held(word: str, _rest: Reply) -> bool:
    return word == "ok"


def _fence(run: Claim) -> dict[str, object]:
    return {"id": run.job_id, "attempt": run.attempt, "owner": run.owner, "worker": run.worker}


def _lease(settings: Settings) -> dict[str, object]:
    return {"lease_ms": round(settings.lease_seconds * 1000)}


def _limit(settings: Settings) -> dict[str, object]:
    return {"queue_limit": settings.job_queue_limit, "quota": settings.quota_queued_jobs}


def _idempotency(method: str, principal: str, request_id: str, digest: str) -> dict[str, object]:
    key = "\0".join((method, principal, request_id))
    return {
        "idem": hashlib.sha256(key.encode()).hexdigest() if request_id else "",
        "request_digest": digest,
        "idem_ms": _IDEMPOTENCY_MS,
    }


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
