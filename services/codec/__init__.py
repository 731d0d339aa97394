"""The codec room: a context's keys and values, computed once, stored small, streamed to clients that need them."""

import asyncio
import importlib
from typing import Any

from palimpsest.rpc.resources import Resources


class CodecRoom:
    """Mounts CodecService over the contexts and calibration profiles of this installation."""

    name = "codec"

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer; torch, which takes seconds, is imported in the background."""
        from services.codec.service import CodecServicer

        self._warming = asyncio.ensure_future(asyncio.to_thread(importlib.import_module, "palimpsest.kv"))
        self._servicer = CodecServicer(resources)
        await asyncio.to_thread(self._servicer.share_profiles)
        return [self._servicer]

    async def stop(self) -> None:
        """Wait for calls that are running."""
        await self._warming
        await asyncio.to_thread(self._servicer.close)


ROOM = CodecRoom()
