"""What a worker does with a hint: claim the job, run its handler, record the outcome."""

import json
import os
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import structlog
from google.protobuf.message import Message

from palimpsest.disk import disk_full, is_full
from palimpsest.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    PalimpsestError,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from palimpsest.jobs.attempt import Attempt
from palimpsest.jobs.handlers import Handler, JobContext, WorkerResources
from palimpsest.jobs.payload import to_json
from palimpsest.jobs.record import JobRecord
from palimpsest.jobs.store import JobStore
from palimpsest.progress import Drain, LeaseLost, Postponed
from palimpsest.telemetry import extract, span

_log = structlog.get_logger(__name__)
_INSIST_SECONDS = 1.0
_JOBS_A_HINT = 4
"""Jobs that one hint may lead to; then Celery may replace the process, and the next hint goes on."""


class Runner:
    """Runs jobs one at a time, in a process that may be killed at any moment.

    Parameters
    ----------
    store
        The store of the records. Give its client retries: a Redis restart must not lose a result.
    resources
        Passed to every handler.
    find
        Returns the handler of a kind, importing it if need be; None if this worker has none.
    worker
        The worker's name: shown in the record, and the address of a drain.
    is_fatal
        Returns whether a job's error leaves this process unusable; it then ends once the error is recorded. None: no
        error does.
    exit_process
        Ends this process at once.
    """

    def __init__(
        self,
        store: JobStore,
        resources: WorkerResources,
        find: Callable[[str], Handler | None],
        worker: str,
        *,
        is_fatal: Callable[[BaseException], bool] | None = None,
        exit_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._store = store
        self._resources = resources
        self._find = find
        self._worker = worker
        self._is_fatal = is_fatal
        self._exit = exit_process

    def run(self, job_id: str) -> None:
        """Claim and run jobs of the hinted one's queue, as their turns come, until there is none to claim.

        A hint may be duplicate or stale, and one caller may have sent ten thousand of them before another's first.
        While this worker ran as many jobs of the queue as it may, its other processes used up hints of those that wait.
        """
        for _ in range(_JOBS_A_HINT):
            if not self._run_next(job_id):
                return

    def _run_next(self, job_id: str) -> bool:
        """Claim and run one job; return whether there was one."""
        settings = self._resources.settings
        try:
            record = self._store.claim(
                job_id,
                uuid.uuid4().hex,
                self._worker,
                settings.standby_queues,
                fair=True,
                lane=settings.worker_concurrency,
            )
        except FailedPrecondition as error:  # a newer version's record; leave it to a newer worker
            _log.warning("job refused", job=job_id, error=str(error))
            return False
        if record is None:
            _log.debug("hint without a job to run", job=job_id)
            return False
        with structlog.contextvars.bound_contextvars(job=job_id, kind=record.kind, attempt=record.attempt):
            _log.info("job started")
            fatal = False
            with Attempt(self._store, record) as attempt:
                try:
                    with extract(json.loads(record.trace)), _span(record):
                        response = self._handle(record, attempt)
                except LeaseLost:
                    kept, ended = False, "LOST"
                except Drain:
                    kept, ended = _insist(lambda: self._store.release(attempt.claim)), "RELEASED"
                except Postponed as later:
                    wait = later.seconds
                    kept, ended = _insist(lambda: self._store.release(attempt.claim, wait)), "POSTPONED"
                except SystemExit:  # the worker stops its children: the job is not to blame
                    self._store.release(attempt.claim)
                    raise
                except Exception as error:
                    failure, ended = _as_error(error), type(error).__name__
                    kept = _insist(lambda: self._store.fail(attempt.claim, failure))
                    fatal = self._is_fatal is not None and self._is_fatal(error)
                else:
                    kind, text = response.DESCRIPTOR.full_name, to_json(response)
                    kept = _insist(lambda: self._store.succeed(attempt.claim, kind, text, attempt.progress()))
                    ended = "SUCCEEDED"
            if kept:
                _log.info("job ended", how=ended)
            else:
                _log.warning(
                    "attempt discarded: another holds the job now, or it was ended meanwhile", how=ended
                )
            if fatal:
                self._exit(1)  # this process cannot use the device again; the worker starts another
        return not fatal

    def _handle(self, record: JobRecord, attempt: Attempt) -> Message:
        code = self._find(record.kind)
        if code is None:
            raise FailedPrecondition(
                Reason.JOB_KIND_UNKNOWN,
                f"This worker has no code for {record.kind}; its version or its image differs from the server's.",
            )
        request = record.request_message()
        if not isinstance(request, code.request):
            raise InvalidArgument(
                Reason.INVALID_REQUEST,
                f"{record.kind} takes {code.request.DESCRIPTOR.full_name}, not {record.request_type}.",
            )
        attempt.end_after(self._resources.settings.job_seconds.get(record.kind, code.seconds))
        context = JobContext(
            record.id, record.principal, record.attempt, attempt, self._resources, record.inputs
        )
        try:
            response = code.run(request, context)
        except Exception:
            # Interrupted work may fail while it unwinds; the interrupt is the reason that counts.
            if attempt.raised is not None:
                raise attempt.raised from None
            raise
        if attempt.raised is not None:  # the handler swallowed it, and its response may be incomplete
            raise attempt.raised
        if not isinstance(response, code.response):
            raise TypeError(
                f"{record.kind} returned {type(response)}, not {code.response.DESCRIPTOR.full_name}"
            )
        to_json(response)
        return response


def _insist(write: Callable[[], bool]) -> bool:
    """Store how an attempt ended, however long the job store is away or its disk is full.

    The heartbeat goes on meanwhile: with the first answer the job is held again, or known to be lost.
    """
    while True:
        try:
            return write()
        except (Unavailable, ResourceExhausted) as error:
            _log.warning("the end of the job is not stored yet", error=str(error))
            time.sleep(_INSIST_SECONDS)


def _span(record: JobRecord) -> AbstractContextManager[Any]:
    return span(record.kind, kind="CONSUMER", job=record.id, attempt=record.attempt)


def _as_error(error: Exception) -> PalimpsestError:
    if isinstance(error, Cancelled):
        return Cancelled(Reason.JOB_CANCELLED, error.message)
    if isinstance(error, PalimpsestError):
        return error
    if is_full(error):
        _log.warning("disk full", error=str(error))
        return disk_full("what the job writes")
    _log.exception("job failed unexpectedly")
    return Internal(
        Reason.BUG, "The job failed unexpectedly; the worker's log has the details under the job's id."
    )
