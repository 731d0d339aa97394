"""The receiver's side of a load, without the calls: what came, what is decoded, what to report.

Messages come in on the thread that reads the call. Chunks are decoded on a thread of their own, in the order in which
they come, so that one is on its way while the one before it is decoded and receipts wait for neither.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.client.loading import (
    Abandoned,
    ArrivingChunk,
    ChunkLoaded,
    Decision,
    Ended,
    Event,
    Opened,
    RecomputeChunk,
)
from palimpsest.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    PalimpsestError,
    Reason,
    Unimplemented,
)

if TYPE_CHECKING:
    import numpy as np

    from palimpsest.kv import CalibrationProfile, ChunkReader, KeyValues

ATTEMPTS = 3
"""Times that a chunk may arrive damaged."""

OnLayersReady = Callable[[ArrivingChunk, int], object]
"""Called on the decoding thread with a chunk and how many of its leading layers are final."""

Response = codec_pb2.LoadContextResponse
Request = codec_pb2.LoadContextRequest


def load_codec() -> None:
    """Import what decoding needs, which takes seconds the first time.

    Raises
    ------
    FailedPrecondition
        Only the client is installed.
    """
    try:
        import_module("palimpsest.kv")
    except ModuleNotFoundError as missing:
        raise FailedPrecondition(
            Reason.SERVICES_MISSING,
            f"Caches are coded and decoded with {missing.name}, which is not installed here: "
            "pip install 'palimpsest-lm[models]'.",
        ) from None


class _Coming:
    """A chunk on its way, this time."""

    def __init__(self, decision: Decision, size: int) -> None:
        self.decision, self.size = decision, size
        self.received = 0
        self.decoding = 0.0  # seconds
        self.given_up = self.checked = False
        self.failure: PalimpsestError | None = None
        self.reader: ChunkReader | None = None


class Reception:
    """One load.

    Parameters
    ----------
    deliver
        Takes events, and the error that ends them; called from both threads.
    report
        Takes requests for the server; likewise.
    chunks
        Leading chunks of the context that are there in the end, those that were held included; 0 for all.
    threads
        Sections of a chunk that are decoded at once.
    on_layers_ready
        See ``OnLayersReady``.

    Attributes
    ----------
    profile
        To be filled with the context's calibration profile, or None where it has none; decoding waits for it.
    delivered
        Chunks delivered so far.
    """

    def __init__(
        self,
        deliver: Callable[[Event | BaseException], object],
        report: Callable[[Request], object],
        *,
        chunks: int,
        threads: int,
        on_layers_ready: OnLayersReady | None,
    ) -> None:
        self._deliver, self._report = deliver, report
        self._threads, self._on_layers_ready = threads, on_layers_ready
        self.profile: Future[CalibrationProfile | None] = Future()
        self.delivered = 0
        self._context = codec_pb2.Context()
        self._chunks = chunks
        self._ids = bytearray()
        self._token_ids: np.ndarray | None = None
        self._coming: dict[int, _Coming] = {}
        self._rejected: dict[int, int] = {}
        self._missing: set[int] = set()
        self._received, self._busy, self._since = 0, 0.0, 0.0
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ended: Ended | None = None
        self._closed = False
        self._decoding = threading.Thread(target=self._decode, name="palimpsest-decode", daemon=True)
        self._decoding.start()

    def close(self) -> None:
        """Decode no further; nothing more is delivered."""
        self._closed = True
        self._work.put(None)
        self.profile.cancel()

    def join(self) -> None:
        """Wait until the decoding thread has ended; after ``close``."""
        self._decoding.join()

    def take(self, message: Response, now: float) -> None:
        """Take the server's next message, which came at ``now`` seconds."""
        kind = message.WhichOneof("event")
        if kind == "opened":
            self._context = message.opened.context
            self._chunks = self._chunks or len(self._context.chunks)
        elif kind == "tokens":
            self._tokens(message.tokens.ids)
        if kind == "chunk":
            self._begin(message.chunk, now)
        elif kind == "data":
            self._data(message.data, now)
        elif kind == "recompute":
            self._recompute(message.recompute.decision)
        elif kind == "abandoned":
            self._abandon(message.abandoned.chunk, now)
            self._deliver(Abandoned(message.abandoned.chunk, message.abandoned.reason))
        elif kind == "ended":
            end = message.ended
            self._ended = Ended(end.sent_bytes, end.seconds, end.loss, end.recomputed_chunks)

    def finish(self) -> None:
        """Take note that the server has said everything; the end is delivered after what is still to be decoded."""
        self._work.put(self._end)

    def _tokens(self, ids: bytes) -> None:
        """Deliver the token ids once those of all chunks are there, checked against the context's record."""
        import numpy as np

        if self._token_ids is not None:  # of chunks that are not asked for
            return
        self._ids += ids
        last = self._context.chunks[self._chunks - 1]
        size = 4 * (last.start + last.tokens)
        if len(self._ids) < size:
            return
        data = bytes(self._ids[:size])
        if last.prefix_digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            raise DataLoss(
                Reason.KV_DAMAGED, "The context's token ids are not those it was made from; make it again."
            )
        self._token_ids = np.frombuffer(data, dtype="<u4")
        self._deliver(Opened(self._context, self._token_ids))

    def _begin(self, begin: Response.ChunkBegin, now: float) -> None:
        index = begin.decision.chunk
        self._abandon(index, now)
        if not self._coming:
            self._since = now
        self._missing.discard(index)
        self._coming[index] = _Coming(begin.decision, begin.size_bytes)

    def _abandon(self, index: int, now: float) -> None:
        coming = self._coming.pop(index, None)
        if coming is not None:
            coming.given_up = True
            self._busy += now - self._since
            self._since = now

    def _data(self, data: Response.Data, now: float) -> None:
        self._received += len(data.data)
        coming = self._coming.get(data.chunk)
        if coming is not None:
            self._busy += now - self._since
            self._since = now
        receipt = Request.Receipt(received_bytes=self._received, busy_seconds=self._busy)
        self._report(Request(receipt=receipt))
        if coming is None:
            return
        if data.offset != coming.received and coming.failure is None:
            coming.failure = DataLoss(
                Reason.KV_DAMAGED, f"Byte {data.offset} came where {coming.received} was due."
            )
        coming.received += len(data.data)
        last = coming.received >= coming.size
        if last:
            del self._coming[data.chunk]
        self._work.put(partial(self._feed, coming, data.data, last))

    def _recompute(self, decision: Decision) -> None:
        assert self._token_ids is not None
        self._missing.discard(decision.chunk)
        chunk = self._context.chunks[decision.chunk]
        ids = self._token_ids[chunk.start : chunk.start + chunk.tokens]
        self._deliver(RecomputeChunk(decision.chunk, ids, decision))

    # On the decoding thread.

    def _decode(self) -> None:
        while (work := self._work.get()) is not None and not self._closed:
            try:
                work()
            except BaseException as error:
                # Cancelled: closed while waiting for the profile.
                if not self._closed:
                    self._deliver(error)
                return

    def _feed(self, coming: _Coming, data: bytes, last: bool) -> None:
        if coming.given_up:
            return
        try:
            kv = self._advance(coming, data, last)
        # Damage to the first bytes of a chunk looks like another format.
        except (DataLoss, InvalidArgument, Unimplemented) as damage:
            coming.failure = damage
            if last:
                self._reject(coming.decision.chunk, damage)
            return
        if kv is None or self._closed or coming.given_up:
            return
        decision = coming.decision
        accepted = Request.Accepted(chunk=decision.chunk, seconds=coming.decoding)
        self._report(Request(accepted=accepted))
        self.delivered += 1
        self._deliver(ChunkLoaded(decision.chunk, decision.level, coming.size, kv, decision))

    def _advance(self, coming: _Coming, data: bytes, last: bool) -> "KeyValues | None":
        """Decode what is complete; return the chunk after its last bytes."""
        from palimpsest.kv import ChunkReader

        if coming.failure is not None:
            raise coming.failure
        profile = self.profile.result()
        began = time.monotonic()
        if coming.reader is None:
            coming.reader = ChunkReader(profile=profile, threads=self._threads)
        reader, index, level = coming.reader, coming.decision.chunk, coming.decision.level
        for layers in reader.feed(data):
            self._check(coming, reader)
            if self._closed or coming.given_up:
                return None
            if self._on_layers_ready is not None and reader.kv is not None:
                self._on_layers_ready(ArrivingChunk(index, level, reader.kv), layers)
        self._check(coming, reader)
        kv = reader.finish() if last else None
        coming.decoding += time.monotonic() - began
        return kv

    def _check(self, coming: _Coming, reader: "ChunkReader") -> None:
        """Refuse a chunk of another model or another text than the context's record says."""
        if coming.checked or reader.header is None:
            return
        coming.checked = True
        meta, chunk = reader.header.meta, self._context.chunks[coming.decision.chunk]
        pairs = {
            "model": (meta.identity.model, self._context.model_fingerprint),
            "prefix": (meta.identity.prefix, chunk.prefix_digest),
            "start": (meta.start, chunk.start),
            "tokens": (meta.tokens, chunk.tokens),
        }
        for name, (found, expected) in pairs.items():
            if found != expected:
                raise FailedPrecondition(
                    Reason.KV_IDENTITY_MISMATCH,
                    f"A chunk came that was made with another {name} than its context's; make the context again.",
                    metadata={"field": name, "found": found, "expected": expected},
                )

    def _reject(self, index: int, damage: PalimpsestError) -> None:
        self._rejected[index] = self._rejected.get(index, 0) + 1
        if self._rejected[index] >= ATTEMPTS:
            raise damage
        self._missing.add(index)
        self._report(Request(rejected=Request.Rejected(chunk=index)))

    def _end(self) -> None:
        if self._ended is None or self._missing:
            raise DataLoss(
                Reason.KV_DAMAGED,
                f"The load ended before chunks {sorted(self._missing)} had come whole; load the context again.",
            )
        self._deliver(self._ended)
