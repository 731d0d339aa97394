"""A real worker process over the real server, with a short lease, and handlers made for being disturbed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import redis
import redis.asyncio
from google.protobuf.struct_pb2 import Struct

from palimpsest.jobs import AsyncJobStore, JobSpec, JobStore, Reconciler
from palimpsest.jobs.hints import Hints
from palimpsest.settings import Settings
from tests.waiting import until

ROOT = Path(__file__).parents[3]


class Worker:
    """``python -m services.worker``, or a module that disturbs it, in a process group of its own."""

    def __init__(
        self, settings: Settings, log: Path, module: str = "services.worker", **changes: str
    ) -> None:
        environment = {
            **os.environ,
            "PALIMPSEST_ARTIFACT_URL": settings.artifact_url,
            "PALIMPSEST_REDIS_URL": settings.redis_url,
            "PALIMPSEST_REDIS_PREFIX": settings.redis_prefix,
            "PALIMPSEST_STATE_DIR": str(settings.state_dir),
            "PALIMPSEST_LEASE_SECONDS": str(settings.lease_seconds),
            "PALIMPSEST_CANCEL_GRACE_SECONDS": str(settings.cancel_grace_seconds),
            "PALIMPSEST_DRAIN_SECONDS": str(settings.drain_seconds),
            "PALIMPSEST_HANDLER_MODULES": "tests.integration.jobs.handlers",
            **changes,
        }
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def children(self) -> list[psutil.Process]:
        """Pool children: those that run jobs, and not the resource tracker."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "worker ready" in self.log.read_text()

    def kill(self) -> None:
        """As a machine that loses power: the whole group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


SHORT: dict[str, object] = {"lease_seconds": 2.0, "cancel_grace_seconds": 1.5, "drain_seconds": 3.0}
"""Settings that make a test's workers quick to lose, cancel and drain."""


class Bench:
    """Stores, a reconciler and workers for one test."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.redis = redis.Redis.from_url(settings.redis_url)
        self.hints = Hints(settings)
        self.store = JobStore(self.redis, settings, announce=self.hints)
        self.workers: list[Worker] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._reconcile, daemon=True)
        self._thread.start()

    def worker(self, module: str = "services.worker", **changes: str) -> Worker:
        worker = Worker(self.settings, self.folder / f"worker-{len(self.workers)}.log", module, **changes)
        self.workers.append(worker)
        until(worker.ready, 60)
        return worker

    def submit(self, verb: str, /, **fields: object) -> str:
        names = ("max_attempts", "execution_timeout", "queue", "principal")
        spec_fields = {key: fields.pop(key) for key in names if key in fields}
        request = Struct()
        request.update({"folder": str(self.folder), **fields})
        return self.store.submit(JobSpec(kind=f"test.{verb}", request=request, **spec_fields)).id  # type: ignore[arg-type]

    def until_state(self, job_id: str, *states: str, timeout: float = 40) -> None:
        try:
            until(lambda: self.store.get(job_id).state in states, timeout)
        except AssertionError as error:
            logs = "\n".join(w.log.read_text()[-5000:] for w in self.workers)
            raise AssertionError(f"{self.store.get(job_id)!r}\n{logs}") from error

    def runs(self, job_id: str) -> list[str]:
        """One line for each event the handler wrote down."""
        path = self.folder / job_id
        return path.read_text().split() if path.exists() else []

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        for worker in self.workers:
            worker.kill()
        self.hints.close()
        self.redis.close()

    def _reconcile(self) -> None:
        async def run() -> None:
            client = redis.asyncio.Redis.from_url(self.settings.redis_url)
            store = AsyncJobStore(client, self.settings, announce=self.hints)
            loop = asyncio.create_task(Reconciler(store, interval=0.5).run())
            await asyncio.to_thread(self._stop.wait)
            loop.cancel()
            await store.close()
            await client.aclose()

        asyncio.run(run())
