"""The worker: ``python -m services.worker`` runs jobs from the queues of PALIMPSEST_WORKER_QUEUES.

A parent process (Celery) receives hints; its children claim and run jobs: PALIMPSEST_WORKER_CONCURRENCY of each queue
at once. It also serves the queues of PALIMPSEST_WORKER_STANDBY_QUEUES for as long as no live worker has them as its
own. SIGTERM or SIGINT drains: running jobs leave a checkpoint and return to the queue, and the worker exits.

Handlers are in ``services/<room>/tasks.py`` and in the modules that PALIMPSEST_HANDLER_MODULES names, separated by
commas. ``--check`` runs nothing; its exit status is 0 if a worker on this host is alive.
"""

import contextlib
import functools
import importlib
import importlib.util
import os
import pkgutil
import signal
import socket
import sys
import threading
import uuid
from typing import Any

import redis
import structlog
from celery import bootsteps, shared_task, signals
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

import services
from palimpsest.errors import PalimpsestError
from palimpsest.jobs.attempt import LONGEST_BEAT
from palimpsest.jobs.celery_app import TASK, create_app
from palimpsest.jobs.handlers import Handler, WorkerResources, registered
from palimpsest.jobs.runner import Runner
from palimpsest.jobs.store import JobStore
from palimpsest.lm.faults import is_fatal
from palimpsest.redis import WorkerRedis
from palimpsest.settings import Settings
from palimpsest.telemetry import configure_tracing
from palimpsest.telemetry.logs import configure_logging

_log = structlog.get_logger("services.worker")  # run as a program, __name__ is another
_NAME = "_PALIMPSEST_WORKER_NAME"
"""Variable through which the worker's children learn its name; no setting."""
_BEAT_LASTS = 15.0
"""Seconds without a beat after which a worker counts as dead."""
_SLOWEST_EXIT = 3.0
"""Seconds Celery may take to stop once its runs have ended."""


@signals.setup_logging.connect(weak=False)
def _log_as_we_do(**_details: object) -> None:
    """Keep Celery, in the worker and in its children, from installing handlers of its own."""
    configure_logging(Settings())


@shared_task(name=TASK)
def run(job_id: str, v: int) -> None:
    """Handle a hint. A hint of an unknown version is left to newer workers: the reconciler repeats it."""
    if v == 1:
        _runner().run(job_id)


@functools.cache
def _runner() -> Runner:
    settings = Settings()
    configure_tracing("worker")
    # A minute of retries: a finished job waits for Redis to return rather than lose its result.
    patience = Retry(ExponentialWithJitterBackoff(base=0.1, cap=2.0), retries=40)
    client = WorkerRedis.from_url(
        settings.redis_url, retry=patience, socket_timeout=10, socket_connect_timeout=5
    )
    store = JobStore(client, settings)
    name = os.environ.get(_NAME, "worker")
    return Runner(store, WorkerResources(settings, client), find_handler, name, is_fatal=is_fatal)


def find_handler(kind: str) -> Handler | None:
    """Return the code for a kind of job, importing as little as necessary: some rooms import torch."""
    room = kind.partition(".")[0]
    modules = [f"services.{room}.tasks"]
    modules += [name.strip() for name in Settings().handler_modules.split(",") if name.strip()]
    modules += [
        f"services.{module.name}.tasks" for module in pkgutil.iter_modules(services.__path__) if module.ispkg
    ]
    for name in modules:
        if (found := registered(kind)) is not None:
            return found
        if name.startswith("services.") and not _exists(name):
            continue
        try:
            importlib.import_module(name)
        except ImportError:  # a missing dependency of another room must not refuse this job
            _log.exception("handlers not loaded", module=name)
    return registered(kind)


def _exists(name: str) -> bool:
    package = name.rpartition(".")[0]
    return importlib.util.find_spec(package) is not None and importlib.util.find_spec(name) is not None


class Beat(bootsteps.StartStopStep):
    """Records every few seconds, from the loop that receives hints, that this worker is alive and what it serves.

    A loop that is stuck or disconnected stops recording, and ``--check`` finds that out: a process that exists but does
    not consume is not alive. The same loop starts and stops consuming the standby queues.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Begin with each connection; Celery clears the timer when it loses one."""
        settings = Settings()
        client = redis.Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
        store = JobStore(client, settings)
        consumed: set[str] = set()  # standby queues; a new connection consumes none yet

        def beat() -> None:
            with contextlib.suppress(PalimpsestError):  # the next beat tries again
                owned = store.owned(settings.standby_queues)
                for queue in settings.standby_queues:
                    if queue in owned and queue in consumed:
                        parent.cancel_task_queue(queue)
                        consumed.discard(queue)
                    elif queue not in owned and queue not in consumed:
                        parent.add_task_queue(queue)
                        consumed.add(queue)
                store.beat(os.environ[_NAME], _BEAT_LASTS, settings.own_queues, sorted(consumed))

        beat()
        parent.timer.call_repeatedly(_BEAT_LASTS / 3, beat)


def check() -> int:
    """Return exit status 0 if a worker on this host is alive, for health checks."""
    settings = Settings()
    client = redis.Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
    return 0 if JobStore(client, settings).workers(socket.gethostname()) else 1


def main() -> int:
    """Run the worker until a signal stops it; the exit status is 0 after a clean drain."""
    if "--check" in sys.argv[1:]:
        return check()
    settings = Settings()
    configure_logging(settings)
    worker_name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
    os.environ[_NAME] = worker_name
    app = create_app(settings, imports=["services.worker"])

    app.steps["consumer"].add(Beat)  # type: ignore[index]

    @signals.worker_shutting_down.connect(weak=False)
    def drain(**_details: object) -> None:
        threading.Thread(target=_drain, args=(settings, worker_name), daemon=True).start()

    @signals.worker_ready.connect(weak=False)
    def ready(**_details: object) -> None:
        # Ctrl-C in a terminal reaches the worker too: it should drain, not drop what it runs.
        handler = signal.getsignal(signal.SIGTERM)
        if callable(handler):
            signal.signal(signal.SIGINT, handler)
        _log.info(
            "worker ready",
            worker=worker_name,
            queues=settings.own_queues,
            standby=settings.standby_queues,
            concurrency=settings.worker_concurrency,
        )

    worker = app.Worker(
        queues=list(settings.own_queues),
        hostname=f"palimpsest-{uuid.uuid4().hex[:12]}@%h",
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return worker.exitcode or 0


def _drain(settings: Settings, worker_name: str) -> None:
    """Let the running attempts leave, then end the process if it still exists when they should have left."""
    deadline = threading.Timer(LONGEST_BEAT + settings.drain_seconds + _SLOWEST_EXIT, _give_up)
    deadline.daemon = True
    deadline.start()
    client = redis.Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
    JobStore(client, settings).drain(worker_name)


def _give_up() -> None:
    _log.error("the worker did not drain in time; its running jobs will be attempted again")
    os._exit(1)  # the children end with their parent


if __name__ == "__main__":
    sys.exit(main())
