"""The part of DatastoreService that searches: passages, continuations, sessions with keys, and quotes to verify."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from services.datastore import convert
from services.datastore.base_service import CorpusCalls
from services.datastore.corpora import mismatch
from services.datastore.embedding import embedded
from services.datastore.search.candidate_blocks import candidate_block
from services.datastore.search.continuations import continue_text, with_continuations
from services.datastore.search.passage_keys import put_keys
from services.datastore.search.verification import verify
from services.datastore.store.catalogue import id_of
from services.datastore.streams import drained_on_error, first_part

_FRAME = 1 << 20
"""Bytes of a candidate block in one message."""
_LIMIT, _PASSAGES = 10, 8


class SearchCalls(CorpusCalls):
    """Calls that search corpora."""

    async def Search(self, request: pb.SearchRequest, context: grpc.aio.ServicerContext) -> pb.SearchResponse:
        """Find passages."""
        opened = await self._open_all(request.corpora)
        epochs = convert.min_epochs(dict(request.min_epochs), opened)

        def work() -> pb.SearchResponse:
            limit, mode = request.limit or _LIMIT, convert.MODES[request.mode]
            found = self._corpora.search(list(opened.values()), request.query, limit, mode, epochs)
            return convert.search_message(found)

        return await self._in_thread(work)

    async def Embed(self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext) -> pb.EmbedResponse:
        """Encode texts."""
        gone = threading.Event()
        try:
            return await self._in_thread(
                embedded, self._corpora, request.encoder, list(request.texts), gone.is_set
            )
        finally:
            gone.set()  # a caller that has left, or whose time is up, keeps no thread

    async def ContinueText(
        self, request: pb.ContinueTextRequest, context: grpc.aio.ServicerContext
    ) -> pb.ContinueTextResponse:
        """Find what follows the last words of a text."""
        opened = await self._open_all(request.corpora)
        query = convert.continuation_query(request)

        def work() -> pb.ContinueTextResponse:
            corpora = [each.corpus for each in opened.values()]
            tokens = list(request.tokens.ids) if request.WhichOneof("context") == "tokens" else None
            ids = self._corpora.context_ids(corpora, request.text, tokens)
            epochs = convert.min_epochs(dict(request.min_epochs), opened)
            return convert.continuations_message(continue_text(corpora, ids, query, epochs))

        return await self._in_thread(work)

    async def OpenSession(
        self, request: pb.OpenSessionRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.OpenSessionResponse]:
        """Stream a candidate block."""
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
        for at in range(0, len(data), _FRAME):
            yield pb.OpenSessionResponse(data=data[at : at + _FRAME])

    async def PutKeys(
        self, request_iterator: AsyncIterator[pb.PutKeysRequest], context: grpc.aio.ServicerContext
    ) -> pb.PutKeysResponse:
        """Store keys that the caller computed."""
        async with drained_on_error(request_iterator):
            begin = await first_part(request_iterator, "begin")
            opened = await self._open(begin.corpus)
            if begin.model_fingerprint != opened.corpus.spec.model_fingerprint:
                raise mismatch(opened.corpus.spec, begin.model_fingerprint)
            response = pb.PutKeysResponse()
            async for request in request_iterator:
                part = request.WhichOneof("part")
                if part != "block":
                    raise InvalidArgument(
                        Reason.DOCUMENT_ORDER,
                        f"Got {part or 'an empty message'} after begin. Send begin once, first, then only blocks.",
                    )
                block = request.block
                passage = (block.document, block.version, block.passage)
                arrays = (block.keys, block.scales, block.norms)
                if await self._in_thread(put_keys, opened, *passage, *arrays, begin.model_fingerprint):
                    response.stored += 1
                else:
                    response.skipped += 1
        return response

    async def VerifySpans(
        self, request: pb.VerifySpansRequest, context: grpc.aio.ServicerContext
    ) -> pb.VerifySpansResponse:
        """Compare quotes with the documents they quote."""
        opened = await self._open_all([span.corpus for span in request.spans])

        def work() -> list[Any]:
            return [
                convert.VERDICTS[
                    verify(opened[s.corpus].corpus, s.document, s.version, s.byte_start, s.byte_end, s.sha256)
                ]
                for s in request.spans
            ]

        return pb.VerifySpansResponse(verdicts=await asyncio.to_thread(work))
