"""The receiver's side of a load, without the gRPC calls: takes the server's messages, makes reports and events.

It does not depend on the server to end: ``wait`` says when to go on without it, and ``go_on`` does. A link that dies or
a decoder that is slower than the model then costs no more than a small share of what the text alone would take.
"""

import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.client.decoder import Coming, Decoder
from palimpsest.client.loading import (
    LOSS_BUDGET,
    RECOMPUTE,
    Abandoned,
    ChunkLoaded,
    Decision,
    Ended,
    Event,
    Opened,
    RecomputeChunk,
)
from palimpsest.client.text_lane import EARLY, SLACK, TextLane
from palimpsest.errors import DataLoss, Reason

if TYPE_CHECKING:
    import numpy as np

SHORTEST_WAIT = 0.01
"""Seconds between two looks at the decoder, at least."""

Response = codec_pb2.LoadContextResponse
Request = codec_pb2.LoadContextRequest


class LoadReceiver:
    """The receiver of one load. It answers every data message with a receipt at once, even while the decoder is busy.

    Its methods may be called from any thread.

    Parameters
    ----------
    deliver
        Called with each event for the caller of the load; never blocks.
    report
        Called with each request for the server; never blocks.
    decoder
        Decodes the chunks of this load.
    begin
        The load's first request. With a recompute curve in its settings the receiver can go on by itself.

    Attributes
    ----------
    left
        Whether the receiver needs nothing more of the stream: it recomputes what is missing.
    """

    def __init__(
        self,
        deliver: Callable[[Event], object],
        report: Callable[[Request], object],
        decoder: Decoder,
        begin: Request.Begin,
    ) -> None:
        self._deliver, self._report, self._decoder = deliver, report, decoder
        self._context = codec_pb2.Context()
        self._settings, self._held, self._chunks = begin.settings, begin.held_chunks, begin.chunks
        self._ids = bytearray()
        self._token_ids: np.ndarray | None = None
        self._coming: dict[int, Coming] = {}  # in transit
        self._latest: dict[int, Coming] = {}  # sent, perhaps not decoded yet
        self._received, self._busy, self._since = 0, 0.0, 0.0
        self._lock = threading.RLock()
        self._lane: TextLane | None = None
        self._levels: dict[int, str] = {}
        self._recomputed: set[int] = set()
        self._began = 0.0
        self._complete_at = float("inf")
        self._alone = self._ending = self._over = False
        self.left = False
        decoder.land = self._land

    def take(self, message: Response, now: float) -> None:
        """Process the server's next message, received at ``now`` seconds."""
        with self._lock:
            match message.WhichOneof("event"):
                case "opened":
                    self._context = self._decoder.context = message.opened.context
                    self._chunks = self._chunks or message.opened.chunks
                case "more_chunks":
                    self._context.chunks.extend(message.more_chunks.chunks)
                case "tokens":
                    self._tokens(message.tokens.ids, now)
                case "chunk":
                    self._begin(message.chunk, now)
                case "data":
                    self._data(message.data, now)
                case "recompute":
                    self._recompute(message.recompute.decision)
                case "abandoned":
                    if self._abandon(message.abandoned.chunk, now):
                        self._deliver(Abandoned(message.abandoned.chunk, message.abandoned.reason))
                case "ended":
                    end = message.ended
                    self._ending = True
                    self._decoder.finish(
                        Ended(end.sent_bytes, end.seconds, end.loss, end.recomputed_chunks, end.over_budget)
                    )

    def finish(self) -> None:
        """Note the end of the server's stream; an error follows if it came too early."""
        with self._lock:
            if not self._ending and not self.left:
                self._decoder.finish(None)

    def recomputed(self, index: int, seconds: float) -> None:
        """Note that a chunk has been recomputed, how long that took, and report it."""
        with self._lock:
            self._report(Request(recomputed=Request.Recomputed(chunk=index, seconds=seconds)))
            self._recomputed.add(index)
            if self._lane is not None:
                self._lane.recomputed(index, seconds)

    # Without the server.

    def wait(self, now: float) -> float | None:
        """Seconds until ``go_on`` has something to do; None: nothing, as long as nothing else happens."""
        with self._lock:
            lane = self._lane
            if lane is None or self._ending or self._over:
                return None
            if lane.complete:
                # The server ends the load if it still answers.
                self._complete_at = min(self._complete_at, now)
                return 0.0 if self._alone else self._complete_at + SLACK * lane.text - now
            # Decoding begins without notice, so look again before long.
            waits = [lane.wait(now), self._slow_decoding(lane, now), max(SHORTEST_WAIT, SLACK * lane.text)]
            return min(each for each in waits if each is not None)

    def go_on(self, now: float) -> None:
        """Recompute the next chunks without an order, or all that is missing, or end: whatever it is time for."""
        with self._lock:
            wait, lane = self.wait(now), self._lane
            if wait is None or wait > EARLY or lane is None:
                return
            if lane.complete:
                self._end(now)
                return
            slow = self._slow_decoding(lane, now)
            if slow is not None and slow <= EARLY:
                self.leave(now)
            else:
                for chunk in lane.take(now):
                    self._take(chunk, now)

    def leave(self, now: float) -> bool:
        """Recompute all that is missing and take nothing more from the stream; returns whether the receiver can."""
        with self._lock:
            if self._lane is None:
                return False
            self.left = self._alone = True
            for chunk in self._lane.take_rest():
                self._take(chunk, now)
            return True

    def _slow_decoding(self, lane: TextLane, now: float) -> float | None:
        """Seconds until decoding the present chunk has taken as long as recomputing it would."""
        spent = self._decoder.spent(now)
        if spent is None or not lane.wanted(spent[0]):
            return None
        return lane.seconds(spent[0]) - spent[1]

    def _take(self, index: int, now: float) -> None:
        self._alone = True
        coming = self._latest.get(index)
        if coming is not None:
            coming.given_up = True  # its bytes still count as received
        self._report(Request(recomputing=Request.Recomputing(chunk=index)))
        self._deliver_order(Decision(chunk=index, level=RECOMPUTE, elapsed_seconds=now - self._began))

    def _land(self, loaded: ChunkLoaded) -> bool:
        """Deliver a decoded chunk, unless it is being recomputed."""
        with self._lock:
            if self._over or (self._lane is not None and not self._lane.arrive(loaded.index)):
                return False
            self._levels[loaded.index] = loaded.level
            self._deliver(loaded)
            return True

    def _end(self, now: float) -> None:
        self._over = True
        loss = self._loss()
        delay = self._settings.mode == codec_pb2.LoadSettings.MODE_DELAY or (
            self._settings.mode == codec_pb2.LoadSettings.MODE_UNSPECIFIED
            and not self._settings.deadline_seconds
        )
        over = delay and loss > (self._settings.loss_budget or LOSS_BUDGET)
        self._deliver(Ended(self._received, now - self._began, loss, len(self._recomputed), over))

    def _loss(self) -> float:
        """Loss of the load, as the server counts it."""
        from palimpsest.kv.plan import loss_of_chunks

        known = {level.level: level.loss for level in self._context.levels}

        def own(at: int) -> float | None:
            level = self._levels.get(at)
            encodings = self._context.chunks[at].encodings
            bounds = {each.level: each.loss for each in encodings if each.HasField("loss")}
            return None if level is None else bounds.get(level, known.get(level, 0.0))

        held = range(self._held, self._chunks)
        return loss_of_chunks((self._context.chunks[at].tokens, own(at)) for at in held)

    # The server's messages.

    def _tokens(self, ids: bytes, now: float) -> None:
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
        self._token_ids, self._began = np.frombuffer(data, dtype="<u4"), now
        if self._settings.recompute:
            self._lane = TextLane(self._text_seconds(), self._held, now)
        self._deliver(Opened(self._context, self._token_ids))

    def _text_seconds(self) -> list[float]:
        """Seconds to recompute each chunk, by the caller's curve."""
        from palimpsest.kv.plan import prefill_seconds

        curve = [(point.tokens, point.seconds) for point in self._settings.recompute]
        ends = [prefill_seconds(curve, c.start + c.tokens) for c in self._context.chunks[: self._chunks]]
        sharers = self._settings.sharers or 1
        return [sharers * (end - start) for start, end in zip([0.0, *ends], ends, strict=False)]

    def _begin(self, begin: Response.ChunkBegin, now: float) -> None:
        index = begin.decision.chunk
        self._abandon(index, now)
        if not self._coming:
            self._since = now
        self._decoder.missing.discard(index)
        coming = self._coming[index] = self._latest[index] = Coming(begin.decision, begin.size_bytes)
        coming.given_up = self.left or (self._lane is not None and not self._lane.wanted(index))

    def _abandon(self, index: int, now: float) -> bool:
        """Drop what has arrived of a chunk; returns whether it was wanted."""
        coming = self._coming.pop(index, None)
        if coming is None:
            return True
        wanted, coming.given_up = not coming.given_up, True
        self._busy += now - self._since
        self._since = now
        return wanted

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
        # An order may cross with what the receiver has taken by itself.
        if self._lane is None or self._lane.order(decision.chunk):
            self._deliver_order(decision)

    def _deliver_order(self, decision: Decision) -> None:
        assert self._token_ids is not None
        self._decoder.missing.discard(decision.chunk)
        chunk = self._context.chunks[decision.chunk]
        ids = self._token_ids[chunk.start : chunk.start + chunk.tokens]
        self._deliver(RecomputeChunk(decision.chunk, ids, decision))
