"""Keys that a candidate block lacks: computed by the engine, and stored for the next request."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import groupby

import structlog

from palimpsest.api.datastore.v1 import datastore_pb2 as store
from palimpsest.candidates.block import Candidates
from palimpsest.candidates.keys import Keys, fill, missing, passages_of, submit_keys
from palimpsest.client.aio.datastore import AsyncDatastore
from palimpsest.engine import Hosted
from palimpsest.errors import PalimpsestError

_log = structlog.get_logger(__name__)

STORE_TIMEOUT = 60.0
"""How long storing computed keys may take, in seconds."""


async def compute_missing(block: Candidates, hosted: Hosted, room: AsyncDatastore) -> int:
    """Fill in the keys that a block lacks, and begin to store them.

    Parameters
    ----------
    block
        Changed in place.
    hosted
        The model.
    room
        The datastore room, with the caller's token.

    Returns
    -------
    int
        Tokens whose keys were computed.
    """
    lacking = missing(block)
    if not lacking:
        return 0
    work = submit_keys(hosted.engine, passages_of(block, lacking))
    try:
        keys = await asyncio.wrap_future(work)
    except asyncio.CancelledError:
        work.cancel()
        raise
    fill(block, lacking, keys)
    storing = asyncio.create_task(_store(block, lacking, keys, hosted.record.fingerprint, room))
    _STORING.add(storing)
    storing.add_done_callback(_STORING.discard)
    return sum(len(own.scales) for own in keys)


async def _store(
    block: Candidates, numbers: Sequence[int], keys: Sequence[Keys], fingerprint: str, room: AsyncDatastore
) -> None:
    """Store keys; the datastore refuses those of a caller who may only read."""
    pairs = sorted(zip(numbers, keys, strict=True), key=lambda pair: block.passages[pair[0]].corpus)
    for corpus, some in groupby(pairs, key=lambda pair: block.passages[pair[0]].corpus):
        try:
            await room.put_keys(_messages(corpus, fingerprint, block, list(some)), timeout=STORE_TIMEOUT)
        except PalimpsestError as error:
            _log.info("token keys were computed but not stored", corpus=corpus, error=str(error))


async def _messages(
    corpus: str, fingerprint: str, block: Candidates, pairs: Sequence[tuple[int, Keys]]
) -> AsyncIterator[store.PutKeysRequest]:
    begin = store.PutKeysRequest.Begin(corpus=corpus, model_fingerprint=fingerprint)
    yield store.PutKeysRequest(begin=begin)
    for number, own in pairs:
        passage = block.passages[number]
        yield store.PutKeysRequest(
            block=store.PutKeysRequest.Block(
                document=passage.document,
                version=passage.version,
                passage=passage.passage,
                keys=own.keys.tobytes(),
                scales=own.scales.astype("<f4").tobytes(),
                norms=own.norms.astype("<f4").tobytes(),
            )
        )


_STORING: set[asyncio.Task[None]] = set()
"""Tasks that store keys: no request waits for them, and asyncio keeps only weak references to tasks."""
