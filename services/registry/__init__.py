"""The registry: models and their lineage, artefacts, jobs."""

import asyncio
import contextlib
from typing import Any

from prometheus_client import REGISTRY

from palimpsest.jobs import JobStore, Reconciler
from palimpsest.jobs.metrics import JobCollector
from palimpsest.jobs.sweeping import sweep_repeatedly
from palimpsest.rpc.resources import Resources
from services.registry.artifact_service import ArtifactServicer
from services.registry.leftovers import TrainingSweep
from services.registry.model_service import ModelServicer


class RegistryRoom:
    """Mounts ModelService and ArtifactService, reconciles the jobs of every room, and clears up after trainings."""

    name = "registry"
    imports = ("services.registry",)

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicers, and start reconciling and clearing up."""
        self._metrics = JobCollector(resources.settings)
        REGISTRY.register(self._metrics)
        jobs = JobStore(resources.redis, resources.settings)
        trainings = TrainingSweep(resources.settings.models_dir, jobs)
        self._sweeping = [
            asyncio.create_task(Reconciler(resources.jobs).run()),
            asyncio.create_task(sweep_repeatedly(trainings.run)),
        ]
        return [ModelServicer(resources), ArtifactServicer(resources)]

    async def stop(self) -> None:
        """Stop both; another registry, or the next one started, continues."""
        REGISTRY.unregister(self._metrics)
        for sweeping in self._sweeping:
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping


ROOM = RegistryRoom()
