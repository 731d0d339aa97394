"""The registry: models and their lineage, artefacts, jobs."""

import asyncio
import contextlib
from typing import Any

from prometheus_client import REGISTRY

from palimpsest.jobs import Reconciler
from palimpsest.jobs.metrics import JobCollector
from palimpsest.rpc.resources import Resources
from services.registry.artifact_service import ArtifactServicer
from services.registry.model_service import ModelServicer


class RegistryRoom:
    """Mounts ModelService and ArtifactService, and reconciles the jobs of every room."""

    name = "registry"
    imports = ("services.registry",)

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicers, and start reconciling the jobs of every room."""
        self._metrics = JobCollector(resources.settings)
        REGISTRY.register(self._metrics)
        self._sweeping = asyncio.create_task(Reconciler(resources.jobs).run())
        return [ModelServicer(resources), ArtifactServicer(resources)]

    async def stop(self) -> None:
        """Stop reconciling; another registry, or the next one started, continues."""
        REGISTRY.unregister(self._metrics)
        self._sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeping


ROOM = RegistryRoom()
