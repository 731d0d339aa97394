"""Decoding drafts: text from language models, and the probability of text under them."""

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from palimpsest.rpc.resources import Resources

if TYPE_CHECKING:
    from palimpsest.engine import EngineHost


class DecodingRoom:
    """Mounts DecodingService over engines that load their models on first use."""

    name = "decoding"

    def __init__(self) -> None:
        self._host: EngineHost | None = None
        self._warming: asyncio.Future[Any] | None = None

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer; torch and transformers, which take seconds, are imported in the background."""
        from palimpsest.engine import EngineHost
        from services.decoding.metrics import EngineCollector
        from services.decoding.service import DecodingServicer

        self._host = EngineHost(resources.settings, resources.models)
        self._metrics = EngineCollector(self._host)
        REGISTRY.register(self._metrics)
        self._warming = asyncio.ensure_future(asyncio.to_thread(_warm))
        self._servicer = DecodingServicer(resources, self._host)
        return [self._servicer]

    async def stop(self) -> None:
        """Stop the engines."""
        REGISTRY.unregister(self._metrics)
        await self._servicer.close()
        if self._warming is not None:
            await self._warming
        if self._host is not None:
            await asyncio.to_thread(self._host.close)


def _warm() -> None:
    for name in ("palimpsest.lm", "palimpsest.engine.engine", "palimpsest.kv"):
        importlib.import_module(name)


ROOM = DecodingRoom()
