"""What a plan would reach in the other rooms: asked as the caller, before anything is recorded."""

from collections.abc import Callable
from dataclasses import dataclass

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.aio.rooms import AsyncCodecRoom, AsyncDatastoreRoom
from palimpsest.errors import NotFound, Reason


@dataclass(frozen=True)
class Reach:
    """Looks up what a plan names in the stores, for one caller.

    Parameters
    ----------
    connect_codec, connect_datastore
        Return a connection with the caller's identity, opened on first use.
    """

    connect_codec: Callable[[], AsyncConnection]
    connect_datastore: Callable[[], AsyncConnection]

    async def stores(self, plan: pb.RemovalPlan) -> list[pb.StoreReach]:
        """Count what is there of every store that a plan names.

        Raises
        ------
        NotFound
            CORPUS_NOT_FOUND, NGRAM_STORE_NOT_FOUND, CONTEXT_NOT_FOUND.
        """
        found = [await self._corpus(each) for each in plan.corpora]
        for name in plan.ngram_stores:
            await AsyncDatastoreRoom(self.connect_datastore()).get_ngram_store(name=name)
            found.append(pb.StoreReach(name=name, present=1))
        for name in plan.contexts:
            await AsyncCodecRoom(self.connect_codec()).get_context(name=name)
            found.append(pb.StoreReach(name=name, present=1))
        return found

    async def _corpus(self, purge: pb.CorpusPurge) -> pb.StoreReach:
        room = AsyncDatastoreRoom(self.connect_datastore())
        await room.get_corpus(name=purge.corpus)
        missing = 0
        for document in purge.documents:
            try:
                await room.stat_document(corpus=purge.corpus, document=document)
            except NotFound as error:
                if error.reason != Reason.DOCUMENT_NOT_FOUND:
                    raise
                missing += 1
        return pb.StoreReach(name=purge.corpus, present=len(purge.documents) - missing, missing=missing)
