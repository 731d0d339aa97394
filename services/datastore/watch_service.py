"""The part of DatastoreService that streams deletions to watchers and reads their acknowledgements."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from services.datastore import convert
from services.datastore.base_service import CorpusCalls
from services.datastore.streams import first_part
from services.datastore.watching import Watcher


class WatchCalls(CorpusCalls):
    """The call that watches deletions."""

    async def WatchDeletions(
        self, request_iterator: AsyncIterator[pb.WatchDeletionsRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchDeletionsResponse]:
        """Send deletions until the caller ends its side of the stream."""
        watch = await first_part(request_iterator, "watch")
        opened = await self._open_all(watch.corpora)
        watcher = Watcher({name: each.corpus for name, each in opened.items()})
        self._watchers.add(watcher)
        acknowledgements = asyncio.ensure_future(_read_acknowledgements(request_iterator, watcher))
        try:
            while not acknowledgements.done():
                for notice in await asyncio.to_thread(watcher.new_deletions):
                    yield pb.WatchDeletionsResponse(
                        corpus=notice.corpus,
                        tombstone_version=notice.tombstone_version,
                        deleted=convert.versions(notice.deleted),
                        everything=notice.everything,
                    )
                await watcher.wait()
            acknowledgements.result()
        finally:
            self._watchers.remove(watcher)
            acknowledgements.cancel()


async def _read_acknowledgements(requests: AsyncIterator[pb.WatchDeletionsRequest], watcher: Watcher) -> None:
    """Record a watcher's acknowledgements until it ends its side of the stream."""
    try:
        async for request in requests:
            part = request.WhichOneof("part")
            if part != "acknowledge":
                raise InvalidArgument(
                    Reason.DOCUMENT_ORDER,
                    f"Got {part or 'an empty message'} after watch. Send watch once, first, then only acknowledge.",
                )
            watcher.acknowledge(request.acknowledge.corpus, request.acknowledge.tombstone_version)
    finally:
        watcher.wake.set()
