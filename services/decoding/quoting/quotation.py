"""Generation that quotes: the candidate block from the datastore room, its keys, and word of deletions."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import structlog

from palimpsest.api.datastore.v1 import datastore_pb2 as store
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.candidates.block import Candidates
from palimpsest.candidates.keys import Keys, fill, missing, passages_of, submit_keys
from palimpsest.candidates.settings import Calibration, Mode, Settings
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.aio.datastore import AsyncDatastore
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.decoding.quoting.revocations import Revocations
from palimpsest.engine import Failed, Hosted, Request
from palimpsest.errors import PalimpsestError, Reason, Unavailable
from services.decoding.outbox import Outbox

_log = structlog.get_logger(__name__)

NestSettings = pb.NestSettings
PASSAGES = 8
TAIL = 32
"""Last tokens of a prompt that passages are looked for with, word for word: as many as the contract takes."""
HEEDED_WITHIN = 2.0
"""Seconds in which the engine heeds a deletion, or the datastore is left to break the stream."""
KEPT_WITHIN = 60.0
"""Seconds in which computed keys are stored, or are not."""
_MODES = {
    NestSettings.MODE_UNSPECIFIED: Mode.NEST,
    NestSettings.MODE_LM: Mode.LM,
    NestSettings.MODE_KNN_LM: Mode.KNN_LM,
    NestSettings.MODE_NEST: Mode.NEST,
    NestSettings.MODE_NEST_STRICT: Mode.NEST_STRICT,
    NestSettings.MODE_LOSSLESS: Mode.LOSSLESS,
}


def settings_of(message: NestSettings) -> Settings:
    """The algorithm's settings; what is unset is left to the corpus's calibration.

    Raises
    ------
    InvalidArgument
        A value that its mode does not allow.
    """
    given = {
        name: getattr(message, name)
        for name in ("mu", "alpha", "tau", "beta", "delta", "gamma", "lm_weight")
        if message.HasField(name)
    }
    settings = Settings(
        mode=_MODES[message.mode],
        r=message.neighbors if message.HasField("neighbors") else None,
        token_matches=message.token_matches,
        **given,
    )
    settings = replace(settings, draft=message.max_draft) if message.max_draft else settings
    settings.check()
    return settings


def may_quote(message: NestSettings) -> bool:
    """Whether passages are looked for at all."""
    return bool(message.corpora) and message.mode != NestSettings.MODE_LM


def query_of(message: pb.GenerateRequest, ids: Sequence[int], tokenizer: Any) -> str:
    """What passages are looked for with: what the caller says, or what the text is to go on from."""
    if message.nest.query:
        return message.nest.query
    match message.WhichOneof("input"):
        case "chat":
            asked = [m.content for m in message.chat.messages if m.role == "user"]
            return asked[-1] if asked else message.chat.messages[-1].content
        case "tokens":
            return tokenizer.decode(ids, skip_special_tokens=True)
        case _:
            return message.prompt


class Quotation:
    """What one request may quote, from the opening of its candidates to its end.

    Parameters
    ----------
    message
        With at least one corpus.
    connection
        To the datastore room, as the caller may use it.
    hosted
        The model.
    outbox
        Of the request. A deletion is heeded only when what was delivered before it has been sent.
    """

    def __init__(
        self, message: NestSettings, connection: AsyncConnection, hosted: Hosted, outbox: Outbox
    ) -> None:
        self._message, self._connection, self._hosted = message, connection, hosted
        self._room = AsyncDatastore(connection)
        self._outbox = outbox
        self._settings = settings_of(message)
        self._revocations = Revocations()
        self._heard: set[str] = set()
        self._all_heard = asyncio.Event()
        self._requests: asyncio.Queue[store.WatchDeletionsRequest | None] = asyncio.Queue()
        self._watching: asyncio.Task[None] | None = None
        self._lost: asyncio.Future[PalimpsestError] = asyncio.get_running_loop().create_future()
        self._told = pb.NestStatistics()
        self._documents: dict[int, set[tuple[str, str]]] = {}
        self._generating = False

    async def open(
        self, request: Request, query: str, prompt: Sequence[int], *, keys: bool = True
    ) -> Request:
        """Listen for deletions, then fetch the block and compute the keys it lacks; returns the engine's request.

        Parameters
        ----------
        request
            The engine's, without the block.
        query
            What passages are searched with.
        prompt
            Token ids of what is continued; passages in which its end stands and goes on come too.
        keys
            Whether keys are computed: where a passage's tokens alone are compared, nobody searches by them.

        Raises
        ------
        NotFound, FailedPrecondition, Aborted, Unavailable, DataLoss
            As the datastore room says.
        """
        began = time.perf_counter()
        self._watching = asyncio.create_task(self._watch())
        # A deletion before the block was made is heeded by the block, one after it by whoever listens already.
        listening = asyncio.create_task(self._all_heard.wait())
        await asyncio.wait([listening, self._lost], return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._lost.done():
            raise self._lost.result()
        block = await self._fetch(query, prompt[-TAIL:])
        self._told.retrieval_seconds = time.perf_counter() - began
        self._told.keys_stored = int(np.diff(block.first)[block.present].sum())
        if keys and self._settings.mode in (Mode.KNN_LM, Mode.NEST, Mode.NEST_STRICT):
            await self._compute(block)
        if self._message.ignore_calibration:
            block.calibrations = dict.fromkeys(block.calibrations, Calibration())
        self._generating = True
        self._lost.add_done_callback(self._end)
        return replace(request, strategy=NestRequest(block, self._settings, self._revocations))

    def complete(self, response: pb.GenerateResponse) -> None:
        """Add to a sequence's statistics what the engine does not know."""
        if response.HasField("span") and response.span.kind == pb.QuotedSpan.KIND_SPAN:
            source = response.span.sources[0]
            self._documents.setdefault(response.span.index, set()).add((source.corpus, source.document))
        if response.HasField("finished"):
            told = response.finished.nest
            told.MergeFrom(self._told)
            told.documents = len(self._documents.get(response.finished.index, ()))
            told.degraded = self._lost.done()

    async def close(self) -> None:
        """Stop listening; keys that are being stored still are."""
        self._requests.put_nowait(None)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    def _end(self, lost: "asyncio.Future[PalimpsestError]") -> None:
        """End the text where nobody tells of deletions any more, unless it is to go on without the datastore."""
        if self._message.on_datastore_loss != NestSettings.DATASTORE_LOSS_DEGRADE:
            self._outbox.deliver([Failed(lost.result())])

    async def _fetch(self, query: str, tail: Sequence[int]) -> Candidates:
        data = await self._room.session(
            query,
            self._message.corpora,
            model_fingerprint=self._hosted.record.fingerprint,
            passages=self._message.passages or PASSAGES,
            prompt_tail=tail,
            timeout=self._connection.deadline,
        )
        return await asyncio.to_thread(Candidates.from_bytes, data)

    async def _compute(self, block: Candidates) -> None:
        """Fill in the keys that are not stored, and store them for the next request."""
        lacking = missing(block)
        if not lacking:
            return
        began = time.perf_counter()
        work = submit_keys(self._hosted.engine, passages_of(block, lacking))
        try:
            keys = await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            work.cancel()
            raise
        fill(block, lacking, keys)
        self._told.keys_seconds = time.perf_counter() - began
        self._told.keys_computed = sum(len(own.scales) for own in keys)
        keep = asyncio.create_task(self._keep(block, lacking, keys))
        _KEEPING.add(keep)
        keep.add_done_callback(_KEEPING.discard)

    async def _keep(self, block: Candidates, numbers: Sequence[int], keys: Sequence[Keys]) -> None:
        """Store keys; a caller who may only read leaves none behind."""
        pairs = sorted(zip(numbers, keys, strict=True), key=lambda pair: block.passages[pair[0]].corpus)
        for corpus, some in groupby(pairs, key=lambda pair: block.passages[pair[0]].corpus):
            try:
                await self._room.put_keys(self._blocks(corpus, block, list(some)), timeout=KEPT_WITHIN)
            except PalimpsestError as error:
                _log.info("token keys were computed and not stored", corpus=corpus, error=str(error))

    async def _blocks(
        self, corpus: str, block: Candidates, pairs: Sequence[tuple[int, Keys]]
    ) -> AsyncIterator[store.PutKeysRequest]:
        fingerprint = self._hosted.record.fingerprint
        yield store.PutKeysRequest(
            begin=store.PutKeysRequest.Begin(corpus=corpus, model_fingerprint=fingerprint)
        )
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

    async def _outgoing(self) -> AsyncIterator[store.WatchDeletionsRequest]:
        watch = store.WatchDeletionsRequest.Watch(corpora=self._message.corpora)
        yield store.WatchDeletionsRequest(watch=watch)
        while (request := await self._requests.get()) is not None:
            yield request

    async def _watch(self) -> None:
        """Heed deletions as they come; once nobody tells of them any more, quote nothing."""
        lost: Exception | None = None
        try:
            async with self._room.watch_deletions(self._outgoing()) as deletions:
                async for deletion in deletions:
                    await self._heed(deletion)
        except Exception as error:
            lost = error
        for corpus in self._message.corpora:
            self._revocations.suspend(corpus)
        if not isinstance(lost, PalimpsestError):
            if lost is not None:
                _log.error("listening for deletions failed", exc_info=lost)
            lost = Unavailable(
                Reason.DATASTORE_LOST, "The datastore tells of deletions no more; send the request again."
            )
        self._lost.set_result(lost)

    async def _heed(self, deletion: store.WatchDeletionsResponse) -> None:
        if deletion.everything:
            self._revocations.suspend(deletion.corpus)
        for gone in deletion.deleted:
            self._revocations.revoke(deletion.corpus, gone.document, gone.version)
        if deletion.corpus not in self._heard:
            self._heard.add(deletion.corpus)
            if self._heard >= set(self._message.corpora):
                self._all_heard.set()
        mark = self._revocations.version
        heeded = await asyncio.to_thread(self._revocations.wait, mark, HEEDED_WITHIN)
        if heeded and self._generating:
            try:
                async with asyncio.timeout(HEEDED_WITHIN):
                    await self._outbox.flushed()
            except TimeoutError:  # a client that does not read; the datastore breaks the stream
                heeded = False
        if heeded:
            acknowledge = store.WatchDeletionsRequest.Acknowledge(
                corpus=deletion.corpus, tombstone_version=deletion.tombstone_version
            )
            self._requests.put_nowait(store.WatchDeletionsRequest(acknowledge=acknowledge))


_KEEPING: set[asyncio.Task[None]] = set()
"""Keys on their way to the store: a request does not wait for them, and a task is kept only by who refers to it."""
