"""Reading request streams: the first message, and documents assembled into batches."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import InvalidArgument, PalimpsestError, Reason
from services.datastore.ingest import IncomingDocument

_BATCH_DOCUMENTS, _BATCH_BYTES = 256, 8 << 20
"""Documents and bytes that may wait for the batch before them to be stored."""
_DRAIN_SECONDS = 1.0


async def first_part(requests: AsyncIterator[Any], part: str) -> Any:
    """Return the content of a stream's first message.

    Raises
    ------
    InvalidArgument
        DOCUMENT_ORDER: the first message is not of this kind.
    """
    first = await anext(requests, None)
    found = first.WhichOneof("part") if first is not None else None
    if found != part:
        message = f"The first message of this stream must be {part}; got {found or 'nothing'}."
        raise InvalidArgument(Reason.DOCUMENT_ORDER, message)
    return getattr(first, part)


@contextlib.asynccontextmanager
async def drained_on_error(requests: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Before an error ends the call, read and drop what the caller is still sending, for up to a second.

    An asyncio gRPC client loses the status of a call that ends while it is sending.
    """
    try:
        yield
    except PalimpsestError:
        with contextlib.suppress(TimeoutError, PalimpsestError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for _ in requests:
                    pass
        raise


async def documents(
    requests: AsyncIterator[pb.AddDocumentsRequest], limit: int
) -> AsyncIterator[IncomingDocument]:
    """Assemble documents from their messages.

    Raises
    ------
    InvalidArgument
        DOCUMENT_ORDER: messages are out of order, or the stream ended inside a document.
    """
    incoming: IncomingDocument | None = None
    async for request in requests:
        part = request.WhichOneof("part")
        if part == "begin" and incoming is None:
            begin = request.begin
            incoming = IncomingDocument(
                begin.document,
                limit,
                title=begin.title,
                uri=begin.uri,
                metadata=dict(begin.metadata),
                media_type=begin.media_type,
                size_bytes=begin.size_bytes,
                sha256=begin.sha256,
            )
        elif part == "chunk" and incoming is not None:
            incoming.append(request.chunk)
        elif part == "end" and incoming is not None:
            incoming.finish()
            yield incoming
            incoming = None
        else:
            where = "outside a document" if incoming is None else f"inside document {incoming.document!r}"
            message = f"Got {part or 'an empty message'} {where}. Send begin, then chunks, then end."
            raise InvalidArgument(Reason.DOCUMENT_ORDER, message)
    if incoming is not None:
        message = (
            f"The stream ended inside document {incoming.document!r}; none of it was stored. Send it again."
        )
        raise InvalidArgument(Reason.DOCUMENT_ORDER, message, metadata={"document": incoming.document})


async def batches(
    requests: AsyncIterator[pb.AddDocumentsRequest], limit: int
) -> AsyncIterator[list[IncomingDocument]]:
    """Batches of documents: each batch has those that arrived while the batch before it was stored.

    Complete documents are yielded before an error of ``documents`` is raised.
    """
    ready: list[IncomingDocument] = []
    changed = asyncio.Event()
    emptied = asyncio.Event()

    async def read() -> None:
        try:
            async for incoming in documents(requests, limit):
                ready.append(incoming)
                changed.set()
                while len(ready) >= _BATCH_DOCUMENTS or sum(len(each.data) for each in ready) >= _BATCH_BYTES:
                    emptied.clear()
                    await emptied.wait()
        finally:
            changed.set()

    reading = asyncio.ensure_future(read())
    try:
        while not reading.done() or ready:
            await changed.wait()
            changed.clear()
            batch, ready[:] = ready[:], []
            emptied.set()
            if batch:
                yield batch
            if reading.done():
                changed.set()
        reading.result()
    finally:
        reading.cancel()
