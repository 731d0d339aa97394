"""Datastore cites: corpora that generation quotes from, byte for byte, and that forget a document at once."""

import asyncio
import importlib
from typing import Any

from palimpsest.rpc.resources import Resources


class DatastoreRoom:
    """Mounts DatastoreService over the corpora of this installation."""

    name = "datastore"

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer; the vector index's library, which takes a moment, is imported in the background."""
        from services.datastore.service import DatastoreServicer

        self._warming = asyncio.ensure_future(asyncio.to_thread(importlib.import_module, "faiss"))
        self._servicer = DatastoreServicer(resources)
        return [self._servicer]

    async def stop(self) -> None:
        """Wait for what was begun."""
        await self._warming
        await self._servicer.stop()


ROOM = DatastoreRoom()
