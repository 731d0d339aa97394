"""The codec room: a context's keys and values, computed once, stored small, streamed to clients that need them."""

import asyncio
from typing import Any

from palimpsest.rpc.imports import MODELS
from palimpsest.rpc.resources import Resources


class CodecRoom:
    """Mounts CodecService over the contexts and calibration profiles of this installation."""

    name = "codec"
    imports = (*MODELS, "palimpsest.lm", "palimpsest.kv", "services.codec")

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer."""
        from services.codec.service import CodecServicer

        self._servicer = CodecServicer(resources)
        await asyncio.to_thread(self._servicer.share_profiles)
        return [self._servicer]

    async def stop(self) -> None:
        """Wait for calls that are running."""
        await asyncio.to_thread(self._servicer.close)


ROOM = CodecRoom()
