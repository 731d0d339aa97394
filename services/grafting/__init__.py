"""The grafting room: at which tokens, in which layers and components a donor's weights bring its answer."""

import asyncio
from typing import Any

from palimpsest.rpc.imports import MODELS
from palimpsest.rpc.resources import Resources


class GraftingRoom:
    """Serves GraftingService; workers run the sweeps."""

    name = "grafting"
    imports = (*MODELS, "palimpsest.lm", "services.grafting")

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer."""
        from services.grafting.service import GraftingServicer

        self._servicer = GraftingServicer(resources)
        return [self._servicer]

    async def stop(self) -> None:
        """Wait for the call that runs."""
        await asyncio.to_thread(self._servicer.close)


ROOM = GraftingRoom()
