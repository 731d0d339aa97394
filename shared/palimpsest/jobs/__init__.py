"""Jobs: work that outlives a call. A record in Redis is the truth, a Celery message only a wake-up hint.

::

    server: Resources.submit(kind, request, needs=...) -> record, hint ---> worker: claim, heartbeat, handler, finish
    Reconciler: repeats lost hints, ends leases, time limits and retention
    client: Operations and JobsService over the same record
"""

from typing import TYPE_CHECKING

from palimpsest.lazy import names_from

if TYPE_CHECKING:
    from palimpsest.jobs.async_store import AsyncJobStore
    from palimpsest.jobs.handlers import JobContext, WorkerResources, handler
    from palimpsest.jobs.reconciler import Reconciler
    from palimpsest.jobs.record import JobRecord
    from palimpsest.jobs.store import JobStore
    from palimpsest.jobs.submission import JobSpec

__all__ = [
    "AsyncJobStore",
    "JobContext",
    "JobRecord",
    "JobSpec",
    "JobStore",
    "Reconciler",
    "WorkerResources",
    "handler",
]

_HOMES = {
    "AsyncJobStore": "async_store",
    "JobContext": "handlers",
    "JobRecord": "record",
    "JobSpec": "submission",
    "JobStore": "store",
    "Reconciler": "reconciler",
    "WorkerResources": "handlers",
    "handler": "handlers",
}

__getattr__ = names_from(__name__, _HOMES)
