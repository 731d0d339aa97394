"""The base of DatastoreService's parts: opening the caller's corpora, and running blocking work off the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from palimpsest.api.datastore.v1 import datastore_pb2_grpc
from palimpsest.rpc import call
from palimpsest.rpc.resources import Resources
from palimpsest.settings import DatastoreSettings
from services.datastore.corpora import Corpora
from services.datastore.store.catalogue import OpenCorpus
from services.datastore.watching import Watchers

T = TypeVar("T")


class CorpusCalls(datastore_pb2_grpc.DatastoreServiceServicer):
    """Base of the parts of the servicer; ``DatastoreServicer`` sets the attributes."""

    _resources: Resources
    _corpora: Corpora
    _settings: DatastoreSettings
    _watchers: Watchers
    _threads: ThreadPoolExecutor

    async def _open(self, name: str) -> OpenCorpus:
        """Open one of the caller's corpora by name."""
        return await asyncio.to_thread(self._corpora.open, call().principal, name)

    async def _open_all(self, names: Sequence[str]) -> dict[str, OpenCorpus]:
        return {name: await self._open(name) for name in dict.fromkeys(names)}

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Run work that keeps a core busy in the room's own threads, of which there are few."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
