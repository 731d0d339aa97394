"""Hints that wake workers: Celery messages sent from one thread, so that an event loop never waits for the broker."""

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
    """Sends hints: call it with a job id and a queue; it returns at once.

    A hint that cannot be sent is dropped, and so is one that comes while a thousand others wait for a broker that does
    not answer. The job is recorded, and the reconciler sends another hint.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-hints")
        self._lock = threading.Lock()
        self._waiting = 0

    def __call__(self, job_id: str, queue: str) -> None:
        """Send the hint soon, or drop it."""
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                return
            self._waiting += 1
        try:
            self._thread.submit(self._send, job_id, queue)
        except RuntimeError:  # closed; another server, or a later one, sends the hint again
            self._waiting = 0

    def close(self) -> None:
        """Drop the hints that wait, and let the one being sent finish."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _app(self) -> "Celery":
        from palimpsest.jobs.celery_app import (
            create_app,  # importing takes 0.3 s: in this thread, for the first job
        )

        return create_app(self._settings)

    def _send(self, job_id: str, queue: str) -> None:
        from palimpsest.jobs.celery_app import MESSAGE_VERSION, TASK

        try:
            self._app.send_task(
                TASK, kwargs={"job_id": job_id, "v": MESSAGE_VERSION}, queue=queue, ignore_result=True
            )
        except Exception as error:  # kombu raises its transports' own types, and none may end the thread
            _log.warning("hint not sent; the reconciler repeats it", job=job_id, error=str(error))
        finally:
            with self._lock:
                self._waiting -= 1
