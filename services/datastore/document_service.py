"""The part of DatastoreService that adds, reads, lists and deletes documents."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import InvalidArgument, OutOfRange, Reason
from palimpsest.paging import ANSWER_BYTES, fitting
from palimpsest.rpc.calls import working
from palimpsest.status import to_status
from services.datastore import convert
from services.datastore.index.encoder import Encoder
from services.datastore.ingest import add_batch, embed_some
from services.datastore.job_service import JobCalls
from services.datastore.store.corpus import Corpus
from services.datastore.store.listing import page, token_after
from services.datastore.streams import batches, drained_on_error, first_part

_FRAME = 256 << 10
"""Bytes of a document in one message."""


class DocumentCalls(JobCalls):
    """Calls on the documents of a corpus."""

    _embedding: dict[Path, asyncio.Future[None]]
    """Embedding that runs in the background, by the corpus's folder."""

    async def AddDocuments(
        self, request_iterator: AsyncIterator[pb.AddDocumentsRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.AddDocumentsResponse]:
        """Store documents as they arrive; documents that are waiting are stored together."""
        async with drained_on_error(request_iterator):
            opening = await first_part(request_iterator, "open")
            opened = await self._open(opening.corpus)
            corpus, spec = opened.corpus, opened.corpus.spec
            tokenizer = await asyncio.to_thread(self._corpora.tokenizer, spec)
            encoder = None if opening.defer_vectors else await asyncio.to_thread(self._corpora.encoder, spec)
            async for batch in batches(request_iterator, self._settings.document_bytes):
                before = corpus.tombstone_version
                with working():  # a caller may wait for the answers before it sends more
                    results = await self._in_thread(
                        add_batch, corpus, batch, tokenizer, encoder, self._settings.unsealed_tokens
                    )
                    # Where a version was replaced, it must not be quoted any more.
                    if corpus.tombstone_version > before:
                        await self._settle(corpus)
                for result in results:
                    yield convert.add_message(result, to_status(result.error) if result.error else None)
            if encoder is not None:
                self._embed_later(corpus, encoder)
        due = self._settings.seal_tokens and corpus.unsealed_tokens >= self._settings.seal_tokens
        if due and not opening.defer_build:
            await self._submit("datastore.build_index", opened, pb.BuildIndexRequest(corpus=opening.corpus))

    def _embed_later(self, corpus: Corpus, encoder: Encoder) -> None:
        """Embed documents that were added without vectors in the background, a few passages at a time."""

        async def work() -> None:
            while await self._in_thread(embed_some, corpus, encoder):
                pass

        running = self._embedding.get(corpus.folder)
        if running is None or running.done():
            self._embedding[corpus.folder] = asyncio.ensure_future(work())

    async def _settle(self, corpus: Corpus) -> tuple[int, int]:
        """Wait for the watchers of a corpus to acknowledge its last deletion."""
        return await self._watchers.settle(
            corpus, corpus.tombstone_version, self._settings.acknowledge_seconds
        )

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GetDocumentResponse]:
        """Stream a document's bytes."""
        opened = await self._open(request.corpus)
        found = await asyncio.to_thread(opened.corpus.find, request.document, request.version)
        data = found.document.data
        end = request.byte_end or len(data)
        if not request.byte_start <= end <= len(data):
            raise OutOfRange(
                Reason.RANGE_INVALID,
                f"Bytes {request.byte_start} to {end} are not a range of {request.document!r}, which has {len(data)} "
                "bytes.",
                metadata={"size_bytes": len(data)},
            )
        yield pb.GetDocumentResponse(document=convert.document_message(found))
        for at in range(request.byte_start, end, _FRAME):
            yield pb.GetDocumentResponse(data=bytes(data[at : min(end, at + _FRAME)]))

    async def StatDocument(
        self, request: pb.StatDocumentRequest, context: grpc.aio.ServicerContext
    ) -> pb.Document:
        """Look up one document."""
        opened = await self._open(request.corpus)
        return convert.document_message(await asyncio.to_thread(opened.corpus.find, request.document))

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListDocumentsResponse:
        """List documents."""
        opened = await self._open(request.corpus)

        def work() -> pb.ListDocumentsResponse:
            found, token = page(opened.corpus, request.page_size, request.page_token)
            messages = [convert.document_message(each) for each in found]
            fit = fitting(message.ByteSize() for message in messages)
            if fit < len(found):
                messages, token = messages[:fit], token_after(found[fit - 1])
            return pb.ListDocumentsResponse(documents=messages, next_page_token=token)

        return await asyncio.to_thread(work)

    async def DeleteDocuments(
        self, request: pb.DeleteDocumentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteReceipt:
        """Delete documents durably, and wait for the watchers to acknowledge it."""
        if request.ByteSize() > ANSWER_BYTES:  # the receipt repeats the ids, and has to fit a message too
            raise InvalidArgument.field(
                Reason.INVALID_REQUEST,
                "documents",
                f"These ids have {request.ByteSize()} bytes together; send at most {ANSWER_BYTES} at once.",
            )
        opened = await self._open(request.corpus)
        corpus = opened.corpus
        # Shielded: watchers must learn of the deletion even if the caller disconnects.
        deleted = await asyncio.shield(asyncio.to_thread(corpus.delete, list(request.documents)))
        acknowledged, broken = await asyncio.shield(self._settle(corpus))
        return pb.DeleteReceipt(
            corpus=request.corpus,
            tombstone_version=corpus.tombstone_version,
            deleted=convert.versions(deleted.values()),
            missing=[each for each in dict.fromkeys(request.documents) if each not in deleted],
            watchers_acknowledged=acknowledged,
            watchers_broken=broken,
            delete_time=convert.timestamp(time.time()),
        )
