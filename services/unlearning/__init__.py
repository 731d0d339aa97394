"""The unlearning room: removal requests carried out on weights, audited and certified."""

import asyncio
import contextlib
from typing import Any

from palimpsest.jobs.sweeping import sweep_repeatedly
from palimpsest.rpc.imports import MODELS
from palimpsest.rpc.resources import Resources


class UnlearningRoom:
    """Serves UnlearningService; workers carry the requests out."""

    name = "unlearning"
    imports = (*MODELS, "palimpsest.certificates", "services.unlearning")

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer, and start looking for what requests leave behind."""
        from services.unlearning.service import UnlearningServicer

        self._servicer = UnlearningServicer(resources)
        self._sweeping = asyncio.create_task(sweep_repeatedly(self._servicer.sweep.run))
        return [self._servicer]

    async def stop(self) -> None:
        """Stop looking; wait for calls that are running."""
        self._sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeping
        await self._servicer.close_peers()
        await asyncio.to_thread(self._servicer.close)


ROOM = UnlearningRoom()
