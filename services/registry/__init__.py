"""The registry keeps: models and their lineage, artefacts, jobs."""

from typing import Any

from palimpsest.jobs.operations import JobsServicer
from palimpsest.rpc.resources import Resources
from services.registry.artifact_service import ArtifactServicer
from services.registry.model_service import ModelServicer


class RegistryRoom:
    """Mounts ModelService, ArtifactService and JobsService."""

    name = "registry"

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicers; there is nothing to warm up."""
        return [ModelServicer(resources), ArtifactServicer(resources), JobsServicer(resources.jobs)]

    async def stop(self) -> None:
        """Nothing is held."""


ROOM = RegistryRoom()
