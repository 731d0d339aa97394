"""The receiver's side of a load, without the gRPC calls: takes the server's messages, makes reports and events."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.client.decoder import Coming, Decoder
from palimpsest.client.loading import Abandoned, Decision, Ended, Event, Opened, RecomputeChunk
from palimpsest.errors import DataLoss, Reason

if TYPE_CHECKING:
    import numpy as np

Response = codec_pb2.LoadContextResponse
Request = codec_pb2.LoadContextRequest


class LoadReceiver:
    """The receiver of one load. It answers every data message with a receipt at once, even while the decoder is busy.

    Parameters
    ----------
    deliver
        Called with each event for the caller of the load.
    report
        Called with each request for the server.
    decoder
        Decodes the chunks of this load.
    chunks
        Leading chunks of the context to end up with, including those the caller already has; 0 for all.
    """

    def __init__(
        self,
        deliver: Callable[[Event], object],
        report: Callable[[Request], object],
        decoder: Decoder,
        chunks: int,
    ) -> None:
        self._deliver, self._report, self._decoder = deliver, report, decoder
        self._context = codec_pb2.Context()
        self._chunks = chunks
        self._ids = bytearray()
        self._token_ids: np.ndarray | None = None
        self._coming: dict[int, Coming] = {}
        self._received, self._busy, self._since = 0, 0.0, 0.0
        self._ended: Ended | None = None

    def take(self, message: Response, now: float) -> None:
        """Process the server's next message, received at ``now`` seconds."""
        match message.WhichOneof("event"):
            case "opened":
                self._context = self._decoder.context = message.opened.context
                self._chunks = self._chunks or len(self._context.chunks)
            case "tokens":
                self._tokens(message.tokens.ids)
            case "chunk":
                self._begin(message.chunk, now)
            case "data":
                self._data(message.data, now)
            case "recompute":
                self._recompute(message.recompute.decision)
            case "abandoned":
                self._abandon(message.abandoned.chunk, now)
                self._deliver(Abandoned(message.abandoned.chunk, message.abandoned.reason))
            case "ended":
                end = message.ended
                self._ended = Ended(
                    end.sent_bytes, end.seconds, end.loss, end.recomputed_chunks, end.over_budget
                )

    def finish(self) -> None:
        """Note the end of the server's stream; ``Ended`` follows once the remaining chunks are decoded."""
        self._decoder.finish(self._ended)

    def _tokens(self, ids: bytes) -> None:
        """Deliver the token ids once all have arrived, checked against the context's record."""
        import numpy as np

        if self._token_ids is not None:  # the rest belongs to chunks that were not requested
            return
        self._ids += ids
        last = self._context.chunks[self._chunks - 1]
        size = 4 * (last.start + last.tokens)
        if len(self._ids) < size:
            return
        data = bytes(self._ids[:size])
        if last.prefix_digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            raise DataLoss(
                Reason.KV_DAMAGED, "The context's token ids do not match its record; create it again."
            )
        self._token_ids = np.frombuffer(data, dtype="<u4")
        self._deliver(Opened(self._context, self._token_ids))

    def _begin(self, begin: Response.ChunkBegin, now: float) -> None:
        index = begin.decision.chunk
        self._abandon(index, now)
        if not self._coming:
            self._since = now
        self._decoder.missing.discard(index)
        self._coming[index] = Coming(begin.decision, begin.size_bytes)

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
                Reason.KV_DAMAGED,
                f"Received byte {data.offset} of a chunk where byte {coming.received} was expected.",
            )
        coming.received += len(data.data)
        last = coming.received >= coming.size
        if last:
            del self._coming[data.chunk]
        self._decoder.feed(coming, data.data, last)

    def _recompute(self, decision: Decision) -> None:
        assert self._token_ids is not None
        self._decoder.missing.discard(decision.chunk)
        chunk = self._context.chunks[decision.chunk]
        ids = self._token_ids[chunk.start : chunk.start + chunk.tokens]
        self._deliver(RecomputeChunk(decision.chunk, ids, decision))
