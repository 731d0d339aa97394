"""Streams of messages taken apart: what comes first, and documents in batches of those that wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import InvalidArgument, PalimpsestError, Reason
from services.datastore.ingest import Arriving

_WAITING, _WAITING_BYTES = 256, 8 << 20
_PATIENCE = 1.0


async def first_part(requests: AsyncIterator[Any], part: str) -> Any:
    """The first message's part, which has to be of one kind.

    Raises
    ------
    InvalidArgument
        DOCUMENT_ORDER.
    """
    first = await anext(requests, None)
    if first is None or first.WhichOneof("part") != part:
        raise InvalidArgument(Reason.DOCUMENT_ORDER, f"The first message of this stream must be {part}.")
    return getattr(first, part)


@contextlib.asynccontextmanager
async def heard_out(requests: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Let the caller finish sending, for a moment, before it is refused: asyncio gRPC clients lose the answer to a call
    that ends while they send.
    """
    try:
        yield
    except PalimpsestError:
        with contextlib.suppress(TimeoutError, PalimpsestError):
            async with asyncio.timeout(_PATIENCE):
                async for _ in requests:
                    pass
        raise


async def documents(requests: AsyncIterator[pb.AddDocumentsRequest], limit: int) -> AsyncIterator[Arriving]:
    """Assemble documents.

    Raises
    ------
    InvalidArgument
        DOCUMENT_ORDER.
    """
    arriving: Arriving | None = None
    async for request in requests:
        part = request.WhichOneof("part")
        if part == "begin" and arriving is None:
            begin = request.begin
            arriving = Arriving(
                begin.document,
                limit,
                title=begin.title,
                uri=begin.uri,
                metadata=dict(begin.metadata),
                media_type=begin.media_type,
                size_bytes=begin.size_bytes,
                sha256=begin.sha256,
            )
        elif part == "chunk" and arriving is not None:
            arriving.take(request.chunk)
        elif part == "end" and arriving is not None:
            arriving.finish()
            yield arriving
            arriving = None
        else:
            raise InvalidArgument(
                Reason.DOCUMENT_ORDER, f"{part or 'an empty message'} does not come here: begin, chunks, end."
            )
    if arriving is not None:
        message = f"The stream ended within {arriving.document!r}; nothing of it is stored."
        raise InvalidArgument(Reason.DOCUMENT_ORDER, message, metadata={"document": arriving.document})


async def batches(
    requests: AsyncIterator[pb.AddDocumentsRequest], limit: int
) -> AsyncIterator[list[Arriving]]:
    """Documents as they come, those that have come meanwhile together; raises what ``documents`` raises, last."""
    ready: list[Arriving] = []
    changed = asyncio.Event()
    taken = asyncio.Event()

    async def read() -> None:
        try:
            async for arriving in documents(requests, limit):
                ready.append(arriving)
                changed.set()
                while len(ready) >= _WAITING or sum(len(each.data) for each in ready) >= _WAITING_BYTES:
                    taken.clear()
                    await taken.wait()
        finally:
            changed.set()

    reading = asyncio.ensure_future(read())
    try:
        while not reading.done() or ready:
            await changed.wait()
            changed.clear()
            batch, ready[:] = ready[:], []
            taken.set()
            if batch:
                yield batch
            if reading.done():
                changed.set()
        reading.result()
    finally:
        reading.cancel()
