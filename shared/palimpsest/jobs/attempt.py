"""One attempt at a job in a worker's child process: its heartbeat, and the Progress its handler reports to."""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from google.protobuf.message import Message

from palimpsest.errors import Cancelled, DeadlineExceeded, PalimpsestError, Reason
from palimpsest.jobs.record import JobRecord
from palimpsest.jobs.replies import Claim
from palimpsest.jobs.store import JobStore
from palimpsest.progress import Drain, LeaseLost

_log = structlog.get_logger(__name__)

LONGEST_BEAT = 2.0
"""Longest time between heartbeats in seconds; shorter where a third of the lease is. Progress and cancellation wait for
one."""
SHORTEST_BEAT = 0.1
"""Shortest time between heartbeats in seconds, however fast stages change: a job must not flood Redis."""


class Attempt:
    """Keeps one claim alive from a thread, and ends the process if the handler does not stop when it has to.

    A context manager around the handler, and the handler's Progress.

    Parameters
    ----------
    store
        The store of the record.
    record
        As the claim returned it.
    exit_process
        Ends this process at once, whatever the handler is doing.
    """

    def __init__(
        self, store: JobStore, record: JobRecord, exit_process: Callable[[int], None] = os._exit
    ) -> None:
        self._store = store
        self._record = record
        self._exit = exit_process
        self.claim = Claim(record.id, record.attempt, record.owner, record.worker)
        self.raised: Exception | None = None
        self._interrupt: type[Exception] | None = None  # pending: what check() raises
        self._interrupted_at = 0.0
        self._limit, self._ends_at = 0.0, math.inf
        self._reported: dict[str, object] | None = None
        self._stage, self._done, self._total = record.stage, record.done, record.total
        self._partials = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {record.id}", daemon=True)
        self._interval = min(store.settings.lease_seconds / 3, LONGEST_BEAT)
        self._parent = os.getppid()

    def __enter__(self) -> "Attempt":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._woken.set()
        self._thread.join()

    def end_after(self, seconds: float) -> None:
        """End the attempt with EXECUTION_TIMEOUT once it has run so long."""
        self._limit, self._ends_at = seconds, time.monotonic() + seconds

    # Progress, from the handler's thread

    def step(self, done: int, total: int, stage: str = "") -> None:
        """Note progress for the next heartbeat, then check. A new stage brings the heartbeat forward."""
        with self._lock:
            self._done, self._total = int(done), int(total)
            entered = bool(stage) and stage != self._stage
            self._stage = stage or self._stage
        if entered:
            self._woken.set()
        self.check()

    def check(self) -> None:
        """Raise the interrupt that is pending, if there is one."""
        if self._interrupt is Cancelled:
            self.raised = Cancelled(Reason.JOB_CANCELLED, "The job was cancelled.")
        elif self._interrupt is DeadlineExceeded:
            self.raised = self._too_long()
        elif self._interrupt is not None:
            self.raised = self._interrupt(self._record.id)
        if self.raised is not None:
            raise self.raised

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Store state, unless Redis cannot take it now: a missed checkpoint costs time, not the job."""
        self._store_unless_away("checkpoint", lambda: self._store.checkpoint(self.claim, state))

    def partial(self, message: Message) -> None:
        """Append a partial result, unless Redis cannot take it now: the result of the job has it all the same."""
        self._partials += 1
        number = self._partials
        self._store_unless_away(
            "partial result", lambda: self._store.add_partial(self.claim, message, number)
        )

    def resume(self) -> dict[str, Any] | None:
        """Return the checkpoint that the record had when this attempt began."""
        return json.loads(self._record.checkpoint) if self._record.checkpoint else None

    def publish(self, digest: str) -> None:
        """Let the job refer to an artefact."""
        self._require(self._store.publish(self.claim, digest))

    def progress(self) -> dict[str, object]:
        """Return the fields of the record that hold progress."""
        with self._lock:
            fraction = min(1.0, self._done / self._total) if self._total > 0 else 0.0
            return {
                "stage": self._stage[:200],
                "done": self._done,
                "total": self._total,
                "fraction": f"{fraction:.6f}",
            }

    def _store_unless_away(self, what: str, write: Callable[[], bool]) -> None:
        try:
            held = write()
        except PalimpsestError as error:
            if error.reason == Reason.JOB_TOO_LARGE:
                raise
            _log.warning(f"{what} not stored", job=self._record.id, error=str(error))
            return
        self._require(held)

    def _require(self, held: bool) -> None:
        if not held:
            self._ask(LeaseLost)
            self.check()

    # the heartbeat's thread

    def _ask(self, interrupt: type[Exception]) -> None:
        # A lost lease outranks a cancellation, a cancellation the end of the time, and that a drain. The grace period
        # begins with the first interrupt of its kind.
        rank = (None, Drain, DeadlineExceeded, Cancelled, LeaseLost)
        with self._lock:
            if rank.index(interrupt) > rank.index(self._interrupt):
                self._interrupt, self._interrupted_at = interrupt, time.monotonic()

    def _beat(self) -> None:
        while self._pause():
            if os.getppid() != self._parent:
                self._exit(1)  # the worker died, and nobody else would stop this process
            try:
                self._exchange()
            except PalimpsestError as error:
                _log.warning("heartbeat failed", job=self._record.id, error=str(error))
            except Exception:
                _log.exception("heartbeat failed", job=self._record.id)
            if time.monotonic() >= self._ends_at:
                self._ask(DeadlineExceeded)
            self._enforce()

    def _pause(self) -> bool:
        """Wait until the next heartbeat is due, or for a new stage; False once the attempt has ended."""
        least = min(SHORTEST_BEAT, self._interval)
        if not self._ended.wait(least):
            self._woken.wait(min(self._interval - least, max(0.0, self._ends_at - time.monotonic())))
            self._woken.clear()
        return not self._ended.is_set()

    def _exchange(self) -> None:
        progress = self.progress()
        beat = self._store.heartbeat(self.claim, None if progress == self._reported else progress)
        self._reported = progress
        if beat.lost:
            self._ask(LeaseLost)
        elif beat.cancel:
            self._ask(Cancelled)
        elif beat.drain:
            self._ask(Drain)

    def _enforce(self) -> None:
        """End the process if the handler has had time enough to stop; first the record, while this attempt holds it."""
        settings = self._store.settings
        grace = settings.drain_seconds if self._interrupt is Drain else settings.cancel_grace_seconds
        if self._interrupt is None or time.monotonic() - self._interrupted_at < grace or self._ended.is_set():
            return
        _log.warning(
            "the handler does not stop; ending its process", job=self._record.id, why=self._interrupt.__name__
        )
        try:
            if self._interrupt is Cancelled:
                self._store.fail(self.claim, Cancelled(Reason.JOB_CANCELLED, "The job was cancelled."))
            elif self._interrupt is DeadlineExceeded:
                self._store.fail(self.claim, self._too_long())
            elif self._interrupt is Drain:
                self._store.release(self.claim)
        finally:
            self._exit(1)

    def _too_long(self) -> DeadlineExceeded:
        kind = self._record.kind
        return DeadlineExceeded(
            Reason.EXECUTION_TIMEOUT,
            f"The attempt ran longer than the {self._limit:g} s that a job of kind {kind} may take. If the work is so "
            f"large, set PALIMPSEST_JOB_SECONDS={kind}=<seconds> for the workers and retry the job.",
            metadata={"kind": kind, "seconds": f"{self._limit:g}"},
        )
