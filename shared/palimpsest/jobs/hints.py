"""Waking workers: Celery messages sent from one thread, so that no event loop waits for the broker."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from palimpsest.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

_log = structlog.get_logger(__name__)
_MOST_WAITING = 1000


class Hints:
    """Call it with a job id and a queue; it returns at once.

    A hint that cannot be sent, or comes while a thousand others wait for a broker that does not answer, is
    dropped: the job is recorded, and the reconciler hints again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-hints")
        self._lock = threading.Lock()
        self._waiting = 0

    def __call__(self, job_id: str, queue: str) -> None:
        """Send the hint soon, or never."""
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                return
            self._waiting += 1
        try:
            self._thread.submit(self._send, job_id, queue)
        except RuntimeError:  # closed; another server, or a later one, hints again
            self._waiting = 0

    def close(self) -> None:
        """Drop what waits and let the message under way finish."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _app(self) -> "Celery":
        from palimpsest.jobs.celery_app import create_app  # 0.3 s: paid by the thread, on the first job

        return create_app(self._settings)

    def _send(self, job_id: str, queue: str) -> None:
        from palimpsest.jobs.celery_app import MESSAGE_VERSION, TASK

        try:
            self._app.send_task(
                TASK, kwargs={"job_id": job_id, "v": MESSAGE_VERSION}, queue=queue, ignore_result=True
            )
        except Exception as error:  # kombu raises its transports' own types; none may end the thread's work
            _log.warning("hint not sent; the reconciler will repeat it", job=job_id, error=str(error))
        finally:
            with self._lock:
                self._waiting -= 1
