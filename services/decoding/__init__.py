"""Decoding drafts: text from language models, and the probability of text under them."""

import asyncio
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from palimpsest.rpc.imports import CLIENTS, MODELS
from palimpsest.rpc.resources import Resources

if TYPE_CHECKING:
    from palimpsest.engine import EngineHost


class DecodingRoom:
    """Mounts DecodingService over engines that load their models on first use."""

    name = "decoding"
    imports = (
        *MODELS,
        *CLIENTS,
        "llguidance.numpy",
        "palimpsest.lm",
        "palimpsest.engine",
        "palimpsest.kv",
        "palimpsest.ngrams",
        "palimpsest.candidates",
        "palimpsest.decoding",
        "services.decoding",
    )

    def __init__(self) -> None:
        self._host: EngineHost | None = None

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer."""
        from palimpsest.engine import EngineHost
        from services.decoding.metrics import EngineCollector
        from services.decoding.service import DecodingServicer

        self._host = EngineHost(resources.settings, resources.models)
        self._metrics = EngineCollector(self._host)
        REGISTRY.register(self._metrics)
        self._servicer = DecodingServicer(resources, self._host)
        return [self._servicer]

    async def stop(self) -> None:
        """Stop the engines."""
        REGISTRY.unregister(self._metrics)
        await self._servicer.close()
        if self._host is not None:
            await asyncio.to_thread(self._host.close)


ROOM = DecodingRoom()
