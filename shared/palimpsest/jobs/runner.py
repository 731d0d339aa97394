"""What a worker does with a hint: claim the job, run its handler, record how it ended."""

import json
import os
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import structlog
from google.protobuf.message import Message

from palimpsest.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    PalimpsestError,
    Reason,
)
from palimpsest.jobs.handlers import Handler, JobContext, WorkerResources
from palimpsest.jobs.payload import to_json
from palimpsest.jobs.record import JobRecord
from palimpsest.jobs.running import Run
from palimpsest.jobs.store import JobStore
from palimpsest.progress import Drain, LeaseLost
from palimpsest.telemetry import extract, span

_log = structlog.get_logger(__name__)


class Runner:
    """Runs jobs one at a time, in a process that may be killed at any moment.

    Parameters
    ----------
    store
        Where the records are. Give its client retries: a Redis restart must not lose a result.
    resources
        Handed to every handler.
    find
        Returns the handler of a kind, importing it if need be; None if this worker has none.
    worker
        The worker's name: shown in the record, and what a drain is addressed to.
    """

    def __init__(
        self, store: JobStore, resources: WorkerResources, find: Callable[[str], Handler | None], worker: str
    ) -> None:
        self._store = store
        self._resources = resources
        self._find = find
        self._worker = worker

    def run(self, job_id: str) -> None:
        """Run the job if it is to be had: hints are repeated, late or out of date, and that is no error."""
        try:
            record = self._store.claim(job_id, uuid.uuid4().hex, self._worker)
        except FailedPrecondition as error:  # a newer version's record: for a newer worker
            _log.warning("job refused", job=job_id, error=str(error))
            return
        if record is None:
            _log.debug("hint without a job to run", job=job_id)
            return
        with structlog.contextvars.bound_contextvars(job=job_id, kind=record.kind, attempt=record.attempt):
            _log.info("job started")
            poisoned = False
            with Run(self._store, record) as run:
                try:
                    with extract(json.loads(record.trace)), _span(record):
                        response = self._handle(record, run)
                except LeaseLost:
                    kept, ended = False, "LOST"
                except Drain:
                    kept, ended = self._store.release(run.claim), "RELEASED"
                except SystemExit:  # the worker stops its children: the job is not to blame
                    self._store.release(run.claim)
                    raise
                except Exception as error:
                    kept, ended = self._store.fail(run.claim, _as_error(error)), type(error).__name__
                    poisoned = _is_cuda_fault(error)
                else:
                    kept = self._store.succeed(
                        run.claim, response.DESCRIPTOR.full_name, to_json(response), run.progress()
                    )
                    ended = "SUCCEEDED"
            if kept:
                _log.info("job ended", how=ended)
            else:
                _log.warning("run discarded: the job is another run's now, or was ended meanwhile", how=ended)
            if poisoned:
                os._exit(1)  # nothing in this process can use the device again; the worker starts another

    def _handle(self, record: JobRecord, run: Run) -> Message:
        code = self._find(record.kind)
        if code is None:
            raise FailedPrecondition(
                Reason.JOB_KIND_UNKNOWN,
                f"This worker has no code for {record.kind}: its version or its image is another one.",
            )
        request = record.request_message()
        if not isinstance(request, code.request):
            raise InvalidArgument(
                Reason.INVALID_REQUEST,
                f"{record.kind} takes {code.request.DESCRIPTOR.full_name}, not {record.request_type}.",
            )
        context = JobContext(record.id, record.principal, record.attempt, run, self._resources)
        try:
            response = code.run(request, context)
        except Exception:
            # Work that was told to stop may trip over its own unwinding; the reason for that is what counts.
            if run.raised is not None:
                raise run.raised from None
            raise
        if run.raised is not None:  # swallowed: what came out may have holes
            raise run.raised
        if not isinstance(response, code.response):
            raise TypeError(
                f"{record.kind} returned {type(response)}, not {code.response.DESCRIPTOR.full_name}"
            )
        to_json(response)
        return response


def _span(record: JobRecord) -> AbstractContextManager[Any]:
    return span(record.kind, kind="CONSUMER", job=record.id, attempt=record.attempt)


def _as_error(error: Exception) -> PalimpsestError:
    if isinstance(error, Cancelled):
        return Cancelled(Reason.JOB_CANCELLED, error.message)
    if isinstance(error, PalimpsestError):
        return error
    _log.exception("job failed unexpectedly")
    return Internal(
        Reason.BUG, "The job failed unexpectedly; the worker's log has the details under the job's id."
    )


def _is_cuda_fault(error: Exception) -> bool:
    return "CUDA error" in str(error)
