"""What one request may quote: the candidate block from the datastore room, its keys, and deletions as they happen."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog

from palimpsest.api.datastore.v1 import datastore_pb2 as store
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.candidates.block import Candidates
from palimpsest.candidates.settings import Calibration, Mode, NestSettings
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.aio.datastore import AsyncDatastore
from palimpsest.decoding.quoting.events import QuotingFinished
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.decoding.quoting.revocations import Revocations
from palimpsest.engine import Failed, Hosted
from palimpsest.errors import PalimpsestError, Reason, Unavailable
from services.decoding.convert import Call, finished_message
from services.decoding.outbox import Outbox
from services.decoding.quoting.keys import compute_missing
from services.decoding.quoting.messages import statistics_message

_log = structlog.get_logger(__name__)

PASSAGES = 8
TAIL = 32
"""Tokens of the prompt's end that are looked up word for word: as many as the contract allows."""
REVOKE_TIMEOUT = 2.0
"""How long to wait for the engine to apply a deletion, in seconds. After that it is not acknowledged, and the datastore
closes the watch."""
_MODES = {
    pb.NestSettings.MODE_UNSPECIFIED: Mode.NEST,
    pb.NestSettings.MODE_LM: Mode.LM,
    pb.NestSettings.MODE_KNN_LM: Mode.KNN_LM,
    pb.NestSettings.MODE_NEST: Mode.NEST,
    pb.NestSettings.MODE_NEST_STRICT: Mode.NEST_STRICT,
    pb.NestSettings.MODE_LOSSLESS: Mode.LOSSLESS,
}


def settings_of(message: pb.NestSettings) -> NestSettings:
    """The algorithm's settings; unset fields are left to the corpus's calibration.

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
    settings = NestSettings(
        mode=_MODES[message.mode],
        r=message.neighbors if message.HasField("neighbors") else None,
        token_matches=message.token_matches,
        **given,
    )
    settings = replace(settings, draft=message.max_draft) if message.max_draft else settings
    settings.check()
    return settings


def may_quote(message: pb.NestSettings) -> bool:
    """Whether passages are retrieved at all."""
    return bool(message.corpora) and message.mode != pb.NestSettings.MODE_LM


def query_of(message: pb.GenerateRequest | pb.DraftRequest, ids: Sequence[int], tokenizer: Any) -> str:
    """The retrieval query: the caller's, or the prompt."""
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


@dataclass
class Retrieval:
    """What retrieval did for one request: tokens with computed and with stored keys, and seconds."""

    keys_computed: int = 0
    keys_stored: int = 0
    retrieval_seconds: float = 0.0
    keys_seconds: float = 0.0


class Quotation:
    """What one request may quote, from the retrieval of its candidates to its end.

    Parameters
    ----------
    message
        Names at least one corpus.
    connection
        To the datastore room, with the caller's token.
    hosted
        The model.
    outbox
        Of the request. A deletion is acknowledged only when everything delivered before it has been sent.
    """

    def __init__(
        self, message: pb.NestSettings, connection: AsyncConnection, hosted: Hosted, outbox: Outbox
    ) -> None:
        self._message, self._connection, self._hosted = message, connection, hosted
        self._room = AsyncDatastore(connection)
        self._outbox = outbox
        self._settings = settings_of(message)
        self._revocations = Revocations()
        self._watched: set[str] = set()
        self._all_watched = asyncio.Event()
        self._requests: asyncio.Queue[store.WatchDeletionsRequest | None] = asyncio.Queue()
        self._watching: asyncio.Task[None] | None = None
        self._lost: asyncio.Future[PalimpsestError] = asyncio.get_running_loop().create_future()
        self._retrieval = Retrieval()
        self._generating = False

    async def open(self, query: str, prompt: Sequence[int], *, keys: bool = True) -> Candidates:
        """Watch for deletions, then fetch the candidate block and compute the keys that it lacks.

        Parameters
        ----------
        query
            What passages are retrieved with.
        prompt
            Token ids of the text to continue. Passages that contain its end and continue it are added.
        keys
            Whether missing keys are computed; a search by tokens needs none.

        Raises
        ------
        NotFound, FailedPrecondition, Aborted, Unavailable, DataLoss
            From the datastore room.
        """
        began = time.perf_counter()
        self._watching = asyncio.create_task(self._watch())
        # The block reflects every deletion before it was made; the watch, which has begun, reports every later one.
        watched = asyncio.create_task(self._all_watched.wait())
        await asyncio.wait([watched, self._lost], return_when=asyncio.FIRST_COMPLETED)
        watched.cancel()
        if self._lost.done():
            raise self._lost.result()
        block = await self._fetch(query, prompt[-TAIL:])
        self._retrieval.retrieval_seconds = time.perf_counter() - began
        self._retrieval.keys_stored = int(np.diff(block.first)[block.present].sum())
        if keys and self._settings.mode in (Mode.KNN_LM, Mode.NEST, Mode.NEST_STRICT):
            began = time.perf_counter()
            computed = await compute_missing(block, self._hosted, self._room)
            if computed:
                self._retrieval.keys_computed = computed
                self._retrieval.keys_seconds = time.perf_counter() - began
        if self._message.ignore_calibration:
            block.calibrations = dict.fromkeys(block.calibrations, Calibration())
        self._generating = True
        self._lost.add_done_callback(self._end)
        return block

    def strategy(self, block: Candidates) -> NestRequest:
        """The engine's strategy for quoting from a block."""
        return NestRequest(block, self._settings, self._revocations)

    def is_alive(self, corpus: str, document: str, version: int) -> bool:
        """Whether a version of a document may be quoted."""
        return not self._revocations.is_dead(corpus, document, version)

    def finished_response(self, event: QuotingFinished, call: Call) -> pb.GenerateResponse:
        """The end of a sequence, with the statistics of quoting and of this request's retrieval."""
        finished = finished_message(event)
        finished.nest.CopyFrom(statistics_message(event.quoting))
        finished.nest.MergeFrom(pb.NestStatistics(**vars(self._retrieval), degraded=self._lost.done()))
        return pb.GenerateResponse(finished=finished)

    async def close(self) -> None:
        """Stop watching. Keys that are being stored are still stored."""
        self._requests.put_nowait(None)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    def _end(self, lost: "asyncio.Future[PalimpsestError]") -> None:
        """End the request when the watch is lost, unless it may continue without the datastore."""
        if self._message.on_datastore_loss != pb.NestSettings.DATASTORE_LOSS_DEGRADE:
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

    async def _outgoing(self) -> AsyncIterator[store.WatchDeletionsRequest]:
        watch = store.WatchDeletionsRequest.Watch(corpora=self._message.corpora)
        yield store.WatchDeletionsRequest(watch=watch)
        while (request := await self._requests.get()) is not None:
            yield request

    async def _watch(self) -> None:
        """Apply deletions as they arrive; when the watch ends, stop quoting."""
        lost: Exception | None = None
        try:
            async with self._room.watch_deletions(self._outgoing()) as deletions:
                async for deletion in deletions:
                    await self._apply(deletion)
        except Exception as error:
            lost = error
        for corpus in self._message.corpora:
            self._revocations.suspend(corpus)
        if not isinstance(lost, PalimpsestError):
            if lost is not None:
                _log.error("the watch for deletions failed", exc_info=lost)
            lost = Unavailable(
                Reason.DATASTORE_LOST,
                "Lost the deletion stream from the datastore, so quotes cannot be kept current. "
                "Retry the request.",
            )
        self._lost.set_result(lost)

    async def _apply(self, deletion: store.WatchDeletionsResponse) -> None:
        """Revoke what was deleted; acknowledge once the engine has applied it and the client has been told."""
        if deletion.everything:
            self._revocations.suspend(deletion.corpus)
        for gone in deletion.deleted:
            self._revocations.revoke(deletion.corpus, gone.document, gone.version)
        if deletion.corpus not in self._watched:
            self._watched.add(deletion.corpus)
            if self._watched >= set(self._message.corpora):
                self._all_watched.set()
        mark = self._revocations.version
        applied = await asyncio.to_thread(self._revocations.wait, mark, REVOKE_TIMEOUT)
        if applied and self._generating:
            try:
                async with asyncio.timeout(REVOKE_TIMEOUT):
                    await self._outbox.flushed()
            except TimeoutError:  # the client does not read: the datastore will break the stream
                applied = False
        if applied:
            acknowledge = store.WatchDeletionsRequest.Acknowledge(
                corpus=deletion.corpus, tombstone_version=deletion.tombstone_version
            )
            self._requests.put_nowait(store.WatchDeletionsRequest(acknowledge=acknowledge))
