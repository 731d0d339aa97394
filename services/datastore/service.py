"""DatastoreService: the calls on corpora; the other calls are in the ``*_service`` modules, by subject."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import NotFound
from palimpsest.paging import ANSWER_BYTES
from palimpsest.rpc import call
from palimpsest.rpc.resources import Resources
from services.datastore import convert
from services.datastore.corpora import Corpora
from services.datastore.document_service import DocumentCalls
from services.datastore.ngrams.service import NgramCalls
from services.datastore.ngrams.stores import NgramStores
from services.datastore.search_service import SearchCalls
from services.datastore.store.catalogue import id_of
from services.datastore.store.listing import MOST_PER_PAGE, PAGE_SIZE, check_id_token
from services.datastore.watch_service import WatchCalls
from services.datastore.watching import Watchers


class DatastoreServicer(DocumentCalls, SearchCalls, WatchCalls, NgramCalls):
    """The contract's DatastoreService over the corpora on this machine's disk."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._corpora = Corpora(resources.settings, resources.models)
        self._settings = self._corpora.settings
        self._ngrams = NgramStores(
            resources.settings,
            resources.redis,
            resources.artifacts,
            resources.models,
            self._corpora,
        )
        self._watchers = Watchers()
        self._embedding = {}
        # Tokenizing and encoding keep a core busy: not in the threads that short calls use.
        self._threads = ThreadPoolExecutor(
            self._settings.max_concurrent_calls, thread_name_prefix="datastore"
        )

    async def stop(self) -> None:
        """Cancel background work, and close the corpora."""
        for running in self._embedding.values():
            running.cancel()
        await asyncio.gather(*self._embedding.values(), return_exceptions=True)
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Wait for running work to finish, and close the corpora."""
        self._threads.shutdown()
        self._corpora.catalogue.close()

    async def CreateCorpus(
        self, request: pb.CreateCorpusRequest, context: grpc.aio.ServicerContext
    ) -> pb.Corpus:
        """Create a corpus."""
        opened = await asyncio.to_thread(
            self._corpora.create,
            call().principal,
            request.corpus_id,
            request.model,
            encoder=request.encoder,
            passage_tokens=request.passage_tokens,
            left_context=request.left_context,
            labels=dict(request.labels),
        )
        return await asyncio.to_thread(convert.corpus_message, opened)

    async def GetCorpus(self, request: pb.GetCorpusRequest, context: grpc.aio.ServicerContext) -> pb.Corpus:
        """Look up one corpus."""
        opened = await self._open(request.name)
        return await asyncio.to_thread(convert.corpus_message, opened)

    async def ListCorpora(
        self, request: pb.ListCorporaRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListCorporaResponse:
        """List the caller's corpora; a corpus deleted meanwhile is left out."""
        check_id_token(request.page_token)
        ids = await asyncio.to_thread(self._corpora.catalogue.ids, call().principal)
        later = [each for each in ids if each > request.page_token]
        size = min(request.page_size, MOST_PER_PAGE) or PAGE_SIZE
        found: list[pb.Corpus] = []
        left, last = ANSWER_BYTES, ""
        for each in later[:size]:
            try:
                opened = await self._open(each)
            except NotFound:
                continue
            message = await asyncio.to_thread(convert.corpus_message, opened, sizes=False)
            left -= message.ByteSize()
            if found and left < 0:
                return pb.ListCorporaResponse(corpora=found, next_page_token=last)
            found.append(message)
            last = each
        return pb.ListCorporaResponse(
            corpora=found, next_page_token=later[size - 1] if len(later) > size else ""
        )

    async def DeleteCorpus(
        self, request: pb.DeleteCorpusRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteCorpusResponse:
        """Delete a corpus, and end the streams of its watchers."""
        opened = await self._open(request.name)
        await asyncio.to_thread(self._corpora.catalogue.delete, call().principal, id_of(request.name))
        self._watchers.close(opened.corpus)
        return pb.DeleteCorpusResponse()
