"""The datastore room: corpora that generation quotes from byte for byte, and that can delete a document at once."""

import asyncio
import importlib
from typing import Any

from palimpsest.rpc.resources import Resources


class DatastoreRoom:
    """Serves DatastoreService over the corpora of this installation."""

    name = "datastore"

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer; FAISS, which is slow to import, is imported in the background."""
        from services.datastore.service import DatastoreServicer

        self._importing = asyncio.ensure_future(asyncio.to_thread(importlib.import_module, "faiss"))
        self._servicer = DatastoreServicer(resources)
        return [self._servicer]

    async def stop(self) -> None:
        """Wait for running work to finish, and close the corpora."""
        await self._importing
        await self._servicer.stop()


ROOM = DatastoreRoom()
