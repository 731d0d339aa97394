"""The transitions of transitions.lua as calls: arguments in, typed answers or errors out.

One function for each transition. :class:`~palimpsest.jobs.JobStore` and :class:`~palimpsest.jobs.AsyncJobStore` run the
calls over a blocking and an asyncio connection.
"""

import base64
import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from palimpsest.errors import FailedPrecondition, InvalidArgument, PalimpsestError, Reason
from palimpsest.jobs.listing import Page, Query, encode_token
from palimpsest.jobs.payload import canonical_digest, checked, request_digest, to_json
from palimpsest.jobs.record import JobRecord, Partial, error_to_json
from palimpsest.jobs.replies import (
    Beat,
    Call,
    Claim,
    QueueStats,
    Reply,
    Stats,
    Sweep,
    as_text,
    collecting,
    held,
    not_found,
    record_or_refusal,
)
from palimpsest.jobs.submission import JobSpec
from palimpsest.settings import Settings
from palimpsest.telemetry.tracing import inject

_IDEMPOTENCY_MS = 7 * 24 * 3600 * 1000
_SWEEP_LIMIT = 100
"""Members of each index that one sweep looks at; Redis does nothing else meanwhile."""
LARGEST_PARTIAL = 64 << 10
"""Bytes of one serialised partial result."""


def submit(spec: JobSpec, settings: Settings) -> Call[JobRecord]:
    """Record a job, or find the one that this request or this action already has."""
    if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", spec.kind):
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "kind", f"{spec.kind!r} is not 'room.verb'.")
    timeout = spec.execution_timeout
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, "execution_timeout", "must be a positive number of seconds."
        )
    digest = request_digest(spec.kind, spec.request)
    action = "" if spec.action is None else canonical_digest({"kind": spec.kind, "action": dict(spec.action)})
    job_id = uuid.uuid4().hex
    arguments = {
        "id": job_id,
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
    return Call("submit", arguments, record_or_refusal(job_id), grows=True, durable=True)


def retry(job_id: str, request_id: str, principal: str, settings: Settings) -> Call[JobRecord]:
    """Queue a FAILED or CANCELLED job again, its attempts counted from zero."""
    arguments = {"id": job_id, **_idempotency("retry", principal, request_id, job_id), **_limit(settings)}
    return Call("retry", arguments, record_or_refusal(job_id), grows=True, durable=True)


def cancel(job_id: str) -> Call[JobRecord]:
    """End a queued job, ask a running one to stop, leave a finished one alone."""
    return Call("cancel", {"id": job_id}, record_or_refusal(job_id))


def delete(job_id: str) -> Call[None]:
    """Delete a finished job, its partial results and its references to artefacts."""

    def parse(word: str, rest: Reply) -> None:
        if word == "refused":
            raise FailedPrecondition(
                Reason.JOB_NOT_FINISHED,
                f"Job {job_id} is {as_text(rest[0])}: only finished jobs are deleted; cancel it first.",
            )
        if word == "missing":
            raise not_found(job_id)

    return Call("delete", {"id": job_id}, parse)


def list_page(query: Query) -> Call[Page]:
    """Read one page of records, newest first."""

    def parse(_word: str, rest: Reply) -> Page:
        records = [JobRecord.parse(flat) for flat in rest[1:]]
        more = bool(rest[0]) and bool(records)
        return Page(records, encode_token(query, records[-1].seq) if more else "")

    arguments: dict[str, object] = {
        "kind": query.kind,
        "state": query.state,
        "limit": query.page_size,
        "before": query.before,
    }
    if query.principal is not None:
        arguments["principal"] = query.principal
    return Call("list", arguments, parse)


def claim(
    job_id: str,
    owner: str,
    worker: str,
    settings: Settings,
    standby: Sequence[str] = (),
    *,
    fair: bool = False,
    lane: int | None = None,
) -> Call[JobRecord | None]:
    """Take a queued job for one attempt; with ``fair`` the one of its queue whose turn it is.

    The answer is None if the job cannot be claimed: it runs, has ended, is gone or not yet due; it waits in one of the
    ``standby`` queues while a worker that serves the queue as its own is alive; or this worker runs ``lane`` jobs of
    its queue already.
    """
    arguments = {
        "id": job_id,
        "owner": owner,
        "worker": worker,
        "standby": dict.fromkeys(standby, True),
        "fair": fair,
        **({} if lane is None else {"lane": lane}),
        **_lease(settings),
    }
    return Call("claim", arguments, lambda word, rest: JobRecord.parse(rest[0]) if word == "ok" else None)


def heartbeat(run: Claim, progress: Mapping[str, object] | None, settings: Settings) -> Call[Beat]:
    """Renew the lease, store progress, and learn of a cancellation or a drain."""
    arguments = {**_fence(run), **_lease(settings)}
    if progress is not None:
        arguments["progress"] = dict(progress)

    def parse(word: str, rest: Reply) -> Beat:
        if word != "ok":
            return Beat(lost=True, cancel=False, drain=False)
        return Beat(lost=False, cancel=as_text(rest[0]) == "1", drain=as_text(rest[1]) == "1")

    return Call("heartbeat", arguments, parse)


def checkpoint(run: Claim, state: Mapping[str, object]) -> Call[bool]:
    """Store the state a later attempt resumes from; False if the lease is lost."""
    text = checked(json.dumps(state, ensure_ascii=False), "The checkpoint")
    return Call("checkpoint", {**_fence(run), "checkpoint": text}, held, grows=True)


def publish(run: Claim, digest: str) -> Call[bool]:
    """Let the job refer to an artefact; False if the lease is lost."""

    def parse(word: str, rest: Reply) -> bool:
        if word == "collecting":
            raise collecting(as_text(rest[0]))
        return word == "ok"

    return Call("publish", {**_fence(run), "digest": digest}, parse)


def add_partial(run: Claim, message: Message, number: int) -> Call[bool]:
    """Append a partial result; False if the lease is lost.

    Parameters
    ----------
    run
        The attempt.
    message
        At most 64 KiB, serialised.
    number
        Counts the partial results of this attempt, so that a call repeated after a lost reply adds nothing.

    Raises
    ------
    InvalidArgument
        JOB_TOO_LARGE: the message takes more than 64 KiB.
    """
    data = message.SerializeToString(deterministic=True)
    if len(data) > LARGEST_PARTIAL:
        raise InvalidArgument(
            Reason.JOB_TOO_LARGE,
            f"A partial result takes {len(data)} bytes and may take {LARGEST_PARTIAL}: put the bulk in an artefact.",
            metadata={"size_bytes": len(data), "limit_bytes": LARGEST_PARTIAL},
        )
    arguments = {
        **_fence(run),
        "type": message.DESCRIPTOR.full_name,
        "value": base64.b64encode(data).decode(),
        "number": number,
    }
    return Call("partial", arguments, held, grows=True)


def partials(job_id: str, since: int) -> Call[list[Partial]]:
    """Read the partial results after sequence number ``since`` that the record still has, oldest first."""

    def parse(word: str, rest: Reply) -> list[Partial]:
        if word != "ok":
            raise not_found(job_id)
        return [Partial.parse(int(rest[0]) + index, entry) for index, entry in enumerate(rest[1:])]

    return Call("partials", {"id": job_id, "since": since}, parse)


def succeed(run: Claim, response_type: str, response: str, progress: Mapping[str, object]) -> Call[bool]:
    """End the attempt with a result; False if the lease is lost, and then the result is not kept."""
    fields = {"response_type": response_type, "response": response, **progress}
    return Call("finish", {**_fence(run), "state": "SUCCEEDED", "fields": fields}, held)


def fail(run: Claim, error: PalimpsestError) -> Call[bool]:
    """End the attempt with an error, CANCELLED where the reason is JOB_CANCELLED; False if the lease is lost."""
    state = "CANCELLED" if error.reason == Reason.JOB_CANCELLED else "FAILED"
    fields = {"error": error_to_json(error)}
    return Call("finish", {**_fence(run), "state": state, "fields": fields}, held)


def release(run: Claim, delay: float = 0.0) -> Call[bool]:
    """Return the job to its queue, for ``delay`` seconds at least, without counting the attempt; False: lost lease."""
    return Call("release", {**_fence(run), "delay_ms": round(1000 * delay)}, held)


def defer(job_id: str, delay: float) -> Call[JobRecord | None]:
    """Let a job that waits be claimed in ``delay`` seconds and not before; None if it runs or has ended."""
    arguments = {"id": job_id, "delay_ms": round(1000 * delay)}
    parse = record_or_refusal(job_id)
    return Call("defer", arguments, lambda word, rest: None if word == "refused" else parse(word, rest))


def sweep(*, lapse: bool) -> Call[Sweep]:
    """Do what is due: end leases (if ``lapse``), time limits and retention, and list the jobs to announce."""

    def parse(_word: str, rest: Reply) -> Sweep:
        names = [as_text(value) for value in rest[4:]]
        hints = list(zip(names[::2], names[1::2], strict=True))
        return Sweep(*(int(n) for n in rest[:3]), more=bool(rest[3]), hints=hints)

    return Call("sweep", {"lapse": lapse, "limit": _SWEEP_LIMIT}, parse)


def stats(queues: Sequence[str]) -> Call[Stats]:
    """Count for the metrics."""

    def parse(_word: str, rest: Reply) -> Stats:
        flat = [as_text(value) for value in rest[0]]
        counters = {name: int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        rows = [
            QueueStats(int(queued), int(running), int(ms) / 1000, served=bool(int(served)))
            for queued, running, ms, served in zip(*[iter(rest[1:])] * 4, strict=True)
        ]
        return Stats(counters, dict(zip(queues, rows, strict=True)))

    return Call("stats", {"queues": list(queues)}, parse)


def _fence(run: Claim) -> dict[str, object]:
    return {"id": run.job_id, "attempt": run.attempt, "owner": run.owner, "worker": run.worker}


def _lease(settings: Settings) -> dict[str, object]:
    return {"lease_ms": round(settings.lease_seconds * 1000)}


def _limit(settings: Settings) -> dict[str, object]:
    share = max(1, int(settings.job_queue_limit * settings.caller_share))
    return {"queue_limit": settings.job_queue_limit, "quota": settings.quota_queued_jobs or share}


def _idempotency(method: str, principal: str, request_id: str, digest: str) -> dict[str, object]:
    key = "\0".join((method, principal, request_id))
    return {
        "idem": hashlib.sha256(key.encode()).hexdigest() if request_id else "",
        "request_digest": digest,
        "idem_ms": _IDEMPOTENCY_MS,
    }
