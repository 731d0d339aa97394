"""The unlearning room: removal requests carried out on weights, audited and certified."""

import asyncio
from typing import Any

from palimpsest.rpc.imports import MODELS
from palimpsest.rpc.resources import Resources


class UnlearningRoom:
    """Serves UnlearningService; workers carry the requests out."""

    name = "unlearning"
    imports = (*MODELS, "palimpsest.certificates", "services.unlearning")

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer."""
        from services.unlearning.service import UnlearningServicer

        self._servicer = UnlearningServicer(resources)
        return [self._servicer]

    async def stop(self) -> None:
        """Wait for calls that are running."""
        await self._servicer.close_peers()
        await asyncio.to_thread(self._servicer.close)


ROOM = UnlearningRoom()
