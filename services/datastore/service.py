"""DatastoreService: validate, convert, call, convert back."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import grpc

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import InvalidArgument, NotFound, OutOfRange, Reason
from palimpsest.rpc import call
from palimpsest.rpc.resources import Resources
from palimpsest.status import to_status
from services.datastore import convert
from services.datastore.corpora import Corpora, mismatch
from services.datastore.index.encoder import Encoder
from services.datastore.ingest import Answer, embed_some, store
from services.datastore.job_service import JobCalls
from services.datastore.ngrams.service import NgramCalls
from services.datastore.ngrams.stores import NgramStores
from services.datastore.search.continuations import continue_text, with_continuations
from services.datastore.search.sessions import candidate_block, put_keys, verify
from services.datastore.store.catalogue import Opened, id_of
from services.datastore.store.corpus import Corpus
from services.datastore.store.listing import MOST_PER_PAGE, PAGE_SIZE, page
from services.datastore.streams import batches, first_part, heard_out
from services.datastore.watching import Watcher, Watchers

T = TypeVar("T")
_FRAME, _BLOCK_FRAME = 256 << 10, 1 << 20
_LIMIT, _PASSAGES = 10, 8


class DatastoreServicer(JobCalls, NgramCalls):
    """The contract's DatastoreService over the corpora on this machine's disk."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._corpora = Corpora(resources.settings, resources.models)
        self._settings = self._corpora.settings
        self._ngrams = NgramStores(
            resources.settings,
            resources.blocking_redis,
            resources.artifacts,
            resources.models,
            self._corpora,
        )
        self._watchers = Watchers()
        self._embedding: dict[Path, asyncio.Future[None]] = {}
        # Tokenizing and embedding take a core: not in the threads that others wait for.
        self._threads = ThreadPoolExecutor(self._settings.calls, thread_name_prefix="datastore")

    async def stop(self) -> None:
        """End what goes on beside calls, and close."""
        for running in self._embedding.values():
            running.cancel()
        await asyncio.gather(*self._embedding.values(), return_exceptions=True)
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Let running work end, and close the corpora."""
        self._threads.shutdown()
        self._corpora.catalogue.close()

    async def CreateCorpus(
        self, request: pb.CreateCorpusRequest, context: grpc.aio.ServicerContext
    ) -> pb.Corpus:
        """Make a corpus."""
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
        """Look one corpus up."""
        opened = await self._open(request.name)
        return await asyncio.to_thread(convert.corpus_message, opened)

    async def ListCorpora(
        self, request: pb.ListCorporaRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListCorporaResponse:
        """List the caller's corpora; one that cannot be opened is left out."""
        ids = await asyncio.to_thread(self._corpora.catalogue.ids, call().principal)
        later = [each for each in ids if each > request.page_token]
        size = min(request.page_size, MOST_PER_PAGE) or PAGE_SIZE
        found = []
        for each in later[:size]:
            try:
                opened = await self._open(each)
                found.append(await asyncio.to_thread(convert.corpus_message, opened, sizes=False))
            except NotFound:
                continue
        return pb.ListCorporaResponse(
            corpora=found, next_page_token=later[size - 1] if len(later) > size else ""
        )

    async def DeleteCorpus(
        self, request: pb.DeleteCorpusRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteCorpusResponse:
        """Delete a corpus."""
        opened = await self._open(request.name)
        await asyncio.to_thread(self._corpora.catalogue.delete, call().principal, id_of(request.name))
        await self._watchers.end(opened.corpus)
        return pb.DeleteCorpusResponse()

    async def AddDocuments(
        self, request_iterator: AsyncIterator[pb.AddDocumentsRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.AddDocumentsResponse]:
        """Store documents as they come, those that wait together."""
        async with heard_out(request_iterator):
            opening = await first_part(request_iterator, "open")
            opened = await self._open(opening.corpus)
            corpus, spec = opened.corpus, opened.corpus.spec
            tokenizer = await asyncio.to_thread(self._corpora.tokenizer, spec)
            encoder = None if opening.defer_vectors else await asyncio.to_thread(self._corpora.encoder, spec)
            async for batch in batches(request_iterator, self._settings.document_bytes):
                before = corpus.tombstones
                answers: list[Answer] = await self._in_thread(
                    store, corpus, batch, tokenizer, encoder, self._settings.unsealed_tokens
                )
                if corpus.tombstones > before:  # a version was replaced: it is quoted no more
                    await self._watchers.settle(corpus, corpus.tombstones, self._settings.acknowledge_seconds)
                for answer in answers:
                    yield convert.answer_message(answer, to_status(answer.error) if answer.error else None)
            if encoder is not None:
                self._embed_later(corpus, encoder)
        if self._settings.seal_tokens and corpus.memory_tokens >= self._settings.seal_tokens:
            await self._submit("datastore.build_index", opened, pb.BuildIndexRequest(corpus=opening.corpus))

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GetDocumentResponse]:
        """Send a document's bytes."""
        opened = await self._open(request.corpus)
        found = await asyncio.to_thread(opened.corpus.find, request.document, request.version)
        data = found.document.data
        end = request.byte_end or len(data)
        if not request.byte_start <= end <= len(data):
            raise OutOfRange(
                Reason.RANGE_INVALID,
                f"{request.document!r} has {len(data)} bytes; {request.byte_start} to {end} is no part of it.",
                metadata={"size_bytes": len(data)},
            )
        yield pb.GetDocumentResponse(document=convert.document_message(found))
        for at in range(request.byte_start, end, _FRAME):
            yield pb.GetDocumentResponse(data=bytes(data[at : min(end, at + _FRAME)]))

    async def StatDocument(
        self, request: pb.StatDocumentRequest, context: grpc.aio.ServicerContext
    ) -> pb.Document:
        """Look one document up."""
        opened = await self._open(request.corpus)
        return convert.document_message(await asyncio.to_thread(opened.corpus.find, request.document))

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListDocumentsResponse:
        """List documents."""
        opened = await self._open(request.corpus)

        def work() -> pb.ListDocumentsResponse:
            found, token = page(opened.corpus, request.page_size, request.page_token)
            return pb.ListDocumentsResponse(
                documents=[convert.document_message(each) for each in found], next_page_token=token
            )

        return await asyncio.to_thread(work)

    async def DeleteDocuments(
        self, request: pb.DeleteDocumentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteReceipt:
        """Delete, durably, and wait for those who watch."""
        opened = await self._open(request.corpus)
        corpus = opened.corpus
        # To its end even if the caller leaves: who watches must hear of what is gone.
        gone = await asyncio.shield(asyncio.to_thread(corpus.delete, list(request.documents)))
        seconds = self._settings.acknowledge_seconds
        acknowledged, broken = await asyncio.shield(self._watchers.settle(corpus, corpus.tombstones, seconds))
        return pb.DeleteReceipt(
            corpus=request.corpus,
            tombstone_version=corpus.tombstones,
            deleted=convert.versions(gone.values()),
            missing=[each for each in dict.fromkeys(request.documents) if each not in gone],
            watchers_acknowledged=acknowledged,
            watchers_broken=broken,
            delete_time=convert.timestamp(time.time()),
        )

    async def Search(self, request: pb.SearchRequest, context: grpc.aio.ServicerContext) -> pb.SearchResponse:
        """Find passages."""
        opened = await self._open_all(request.corpora)
        epochs = convert.min_epochs(dict(request.min_epochs), opened)

        def work() -> pb.SearchResponse:
            found = self._corpora.search(
                list(opened.values()),
                request.query,
                request.limit or _LIMIT,
                convert.MODES[request.mode],
                epochs,
            )
            return convert.search_message(found)

        return await self._in_thread(work)

    async def ContinueText(
        self, request: pb.ContinueTextRequest, context: grpc.aio.ServicerContext
    ) -> pb.ContinueTextResponse:
        """Find what follows the last words of a text."""
        opened = await self._open_all(request.corpora)
        wanted = convert.wanted_continuation(request)

        def work() -> pb.ContinueTextResponse:
            corpora = [each.corpus for each in opened.values()]
            tokens = list(request.tokens.ids) if request.WhichOneof("context") == "tokens" else None
            ids = self._corpora.context_ids(corpora, request.text, tokens)
            epochs = convert.min_epochs(dict(request.min_epochs), opened)
            return convert.continued_message(continue_text(corpora, ids, wanted, epochs))

        return await self._in_thread(work)

    async def OpenSession(
        self, request: pb.OpenSessionRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.OpenSessionResponse]:
        """Send a candidate block."""
        opened = await self._open_all(request.corpora)
        for each in opened.values():
            if each.corpus.spec.model_fingerprint != request.model_fingerprint:
                raise mismatch(each.corpus.spec, request.model_fingerprint)
        epochs = convert.min_epochs(dict(request.min_epochs), opened)

        def work() -> tuple[pb.OpenSessionResponse.Opened, bytes]:
            k, mode = request.passages or _PASSAGES, convert.MODES[request.mode]
            found = self._corpora.search(list(opened.values()), request.query, k, mode, epochs)
            found = with_continuations(found, [each.corpus for each in opened.values()], request.prompt_tail)
            block = candidate_block(found, {id_of(name): each for name, each in opened.items()})
            data = block.to_bytes()
            head = pb.OpenSessionResponse.Opened(
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                epochs=block.epochs,
                tombstone_versions=block.tombstones,
                passages=len(block.passages),
                passages_with_keys=int(block.present.sum()),
            )
            return head, data

        head, data = await self._in_thread(work)
        yield pb.OpenSessionResponse(opened=head)
        for at in range(0, len(data), _BLOCK_FRAME):
            yield pb.OpenSessionResponse(data=data[at : at + _BLOCK_FRAME])

    async def PutKeys(
        self, request_iterator: AsyncIterator[pb.PutKeysRequest], context: grpc.aio.ServicerContext
    ) -> pb.PutKeysResponse:
        """Keep a caller's keys."""
        async with heard_out(request_iterator):
            begin = await first_part(request_iterator, "begin")
            opened = await self._open(begin.corpus)
            if begin.model_fingerprint != opened.corpus.spec.model_fingerprint:
                raise mismatch(opened.corpus.spec, begin.model_fingerprint)
            response = pb.PutKeysResponse()
            async for request in request_iterator:
                if request.WhichOneof("part") != "block":
                    raise InvalidArgument(Reason.DOCUMENT_ORDER, "begin comes once, first; then blocks.")
                block = request.block
                numbers = (block.keys, block.scales, block.norms)
                where = (block.document, block.version, block.passage)
                if await self._in_thread(put_keys, opened, *where, *numbers, begin.model_fingerprint):
                    response.stored += 1
                else:
                    response.skipped += 1
        return response

    async def WatchDeletions(
        self, request_iterator: AsyncIterator[pb.WatchDeletionsRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchDeletionsResponse]:
        """Tell of deletions."""
        watch = await first_part(request_iterator, "watch")
        opened = await self._open_all(watch.corpora)
        watcher = Watcher({name: each.corpus for name, each in opened.items()})
        self._watchers.enter(watcher)
        hearing = asyncio.ensure_future(_hear(request_iterator, watcher))
        try:
            while not hearing.done():
                for name, tombstones, gone, everything in await asyncio.to_thread(watcher.news):
                    yield pb.WatchDeletionsResponse(
                        corpus=name,
                        tombstone_version=tombstones,
                        deleted=convert.versions(gone),
                        everything=everything,
                    )
                await watcher.wait()
            hearing.result()
        finally:
            self._watchers.leave(watcher)
            hearing.cancel()

    async def VerifySpans(
        self, request: pb.VerifySpansRequest, context: grpc.aio.ServicerContext
    ) -> pb.VerifySpansResponse:
        """Compare quotes with what they quote."""
        opened = await self._open_all([span.corpus for span in request.spans])

        def work() -> list[Any]:
            return [
                convert.VERDICTS[
                    verify(opened[s.corpus].corpus, s.document, s.version, s.byte_start, s.byte_end, s.sha256)
                ]
                for s in request.spans
            ]

        return pb.VerifySpansResponse(verdicts=await asyncio.to_thread(work))

    def _embed_later(self, corpus: Corpus, encoder: Encoder) -> None:
        """Have what was added without vectors embedded, a few passages at a time, beside everything else."""

        async def work() -> None:
            while await self._in_thread(embed_some, corpus, encoder):
                pass

        running = self._embedding.get(corpus.folder)
        if running is None or running.done():
            self._embedding[corpus.folder] = asyncio.ensure_future(work())

    async def _open_all(self, names: Sequence[str]) -> dict[str, Opened]:
        return {name: await self._open(name) for name in dict.fromkeys(names)}

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


async def _hear(requests: AsyncIterator[pb.WatchDeletionsRequest], watcher: Watcher) -> None:
    """Note what a watcher acknowledges until it ends its side."""
    try:
        async for request in requests:
            if request.WhichOneof("part") != "acknowledge":
                raise InvalidArgument(
                    Reason.DOCUMENT_ORDER, "watch comes once, first; then acknowledgements."
                )
            watcher.acknowledge(request.acknowledge.corpus, request.acknowledge.tombstone_version)
    finally:
        watcher.woken.set()
