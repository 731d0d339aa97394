"""Jobs: work that outlives a call. A record in Redis is the truth, a Celery message only a wake-up hint.

::

    server: submit(JobSpec) -> record, hint ---> worker: claim, heartbeat, handler, finish
    Reconciler: re-hints what was lost, ends leases, time limits and retention
    client: Operations and JobsService over the same record

Names are loaded on first use, so that domain code may import ``palimpsest.jobs.progress`` for nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palimpsest.jobs.async_store import AsyncJobStore
    from palimpsest.jobs.handlers import JobContext, WorkerResources, handler
    from palimpsest.jobs.progress import Drain, LeaseLost, NullProgress, Progress
    from palimpsest.jobs.reconciler import Reconciler
    from palimpsest.jobs.record import JobRecord, JobSpec
    from palimpsest.jobs.store import JobStore

__all__ = [
    "AsyncJobStore",
    "Drain",
    "JobContext",
    "JobRecord",
    "JobSpec",
    "JobStore",
    "LeaseLost",
    "NullProgress",
    "Progress",
    "Reconciler",
    "WorkerResources",
    "handler",
]

_MODULES = {
    "AsyncJobStore": "async_store",
    "JobStore": "store",
    "JobRecord": "record",
    "JobSpec": "record",
    "Reconciler": "reconciler",
    "JobContext": "handlers",
    "WorkerResources": "handlers",
    "handler": "handlers",
    "Drain": "progress",
    "LeaseLost": "progress",
    "NullProgress": "progress",
    "Progress": "progress",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
