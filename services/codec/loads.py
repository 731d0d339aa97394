"""One load of a context: decisions, chunks and orders out, reports of the receiver in.

The network lane sends chunks from the back of the context while the receiver recomputes from the front as it is told;
see ``palimpsest.kv.controller``. What is on its way without a receipt is bounded by a window, so that the estimate of
the bandwidth is the receiver's and not that of buffers along the way, and a decision is never far ahead of the link.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import DataLoss, DeadlineExceeded, NotFound, PalimpsestError, Reason
from palimpsest.kv.controller import CAUTION, LATE, Controller, Decision, Load, Receipt
from services.codec.plans import TEXT, decision_message

Event = pb.LoadContextResponse
WINDOW = 1 << 20
LARGEST_FRAME, SMALLEST_FRAME = 256 << 10, 16 << 10
IDS_FRAME = 256 << 10
FIRST_ORDER = 0.1
"""Seconds after which a chunk is ordered to be recomputed though nothing is known of the link yet: one that has shown
nothing by then is slow. On a fast one recomputing would only take the processor from decoding."""
SHORTEST_MEASURE = 0.02
"""Seconds of receiving that a measurement of the bandwidth spans at least, unless a chunk ends before."""


class Sending:
    """A chunk that is being sent."""

    def __init__(self, chunk: int, level: str, size: int, begun: float, offset: int) -> None:
        self.chunk, self.level, self.size, self.begun = chunk, level, size, begun
        self.first = offset  # position of its first byte in all that is sent
        self.sent = 0
        self.check_at = float("inf")
        self.pieces: Generator[bytes] | None = None
        self.piece = b""


class LoadSession:
    """The server's side of one load.

    Parameters
    ----------
    context
        With its chunks.
    ids
        Its token ids, little-endian 32-bit numbers.
    load
        The controller's view of chunks ``first`` and after.
    first
        Leading chunks that the receiver has already.
    read
        Opens a stored chunk by its digest: a generator of verified pieces.
    window
        Most bytes on the way without a receipt.
    idle_seconds
        How long the receiver may report nothing while it is waited for.
    clock
        Seconds.
    """

    def __init__(
        self,
        context: pb.Context,
        ids: bytes,
        load: Load,
        read: Callable[[str], Generator[bytes]],
        *,
        first: int = 0,
        window: int = WINDOW,
        idle_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context, self._load, self._first, self._read = context, load, first, read
        last = context.chunks[first + len(load.chunks) - 1]
        self._ids = ids[: 4 * (last.start + last.tokens)]
        self._window = window or WINDOW
        self._frame = min(self._window, LARGEST_FRAME, max(SMALLEST_FRAME, self._window // 8))
        self._idle, self._clock = idle_seconds, clock
        self._controller = Controller(load)
        self._changed = asyncio.Event()
        self._closed = self._waiting = False
        self._moved = self._clock()
        self._sent = self._acknowledged = 0
        self._busy = 0.0
        self._measured = (0, 0.0)
        self._unknown = load.recompute and not load.bandwidth
        self._ordered: set[int] = set()
        self._by_text: set[int] = set()
        self._levels: dict[int, str] = {}
        self._pending: set[int] = set()
        self._again: list[int] = []
        self._tried: dict[int, set[str]] = {}

    # What the receiver says.

    def take(self, request: pb.LoadContextRequest) -> None:
        """Take note of a report; anything but a report is ignored."""
        match request.WhichOneof("part"):
            case "receipt":
                self._receipt(request.receipt)
            case "recomputed":
                at = request.recomputed.chunk - self._first
                if at in self._ordered:
                    self._ordered.discard(at)
                    self._controller.recomputed(at, request.recomputed.seconds)
            case "rejected":
                at = request.rejected.chunk - self._first
                if at in self._levels and at not in self._again:
                    self._again.append(at)
            case "accepted":
                self._pending.discard(request.accepted.chunk - self._first)
        self._changed.set()

    def close(self) -> None:
        """Take note that the receiver says no more."""
        self._closed = True
        self._changed.set()

    def taken(self) -> None:
        """Take note that the transport has taken an event."""
        self._moved = self._clock()

    async def watch(self, give_up: Callable[[], object]) -> None:
        """Give up once the transport has not moved for too long: a receiver that does not read."""
        while True:
            await asyncio.sleep(self._idle / 4)
            if not self._waiting and self._clock() - self._moved > self._idle:
                give_up()
                return

    def _receipt(self, receipt: pb.LoadContextRequest.Receipt) -> None:
        # Never more than was sent, never less than before: a receiver cannot open its own window wider.
        self._acknowledged = max(self._acknowledged, min(receipt.received_bytes, self._sent))
        self._busy = max(self._busy, receipt.busy_seconds)
        size, seconds = self._acknowledged - self._measured[0], self._busy - self._measured[1]
        if size > 0 and (seconds >= SHORTEST_MEASURE or (self._acknowledged == self._sent and seconds > 0)):
            self._controller.received(Receipt(size, seconds))
            self._measured = (self._acknowledged, self._busy)

    # What it is sent.

    async def events(self) -> AsyncGenerator[Event]:
        """Everything the receiver is sent, in order.

        Raises
        ------
        DataLoss
            A chunk cannot be read at any level, and the receiver cannot recompute.
        DeadlineExceeded
            LOAD_ABANDONED: the receiver has reported nothing for too long, or ended its side.
        """
        chunks = self._first + len(self._load.chunks)
        yield Event(opened=Event.Opened(context=_bare(self._context), chunks=chunks))
        for at in range(0, len(self._ids), IDS_FRAME):
            yield Event(tokens=Event.TokenIds(start=at // 4, ids=self._ids[at : at + IDS_FRAME]))
        start = self._clock()
        sending: Sending | None = None
        try:
            while True:
                # Planning costs more than sending a frame: the compute lane is asked about only after a report.
                news = self._changed.is_set() or self._sent == 0
                self._changed.clear()
                now = self._clock() - start
                if news and self._may_order(now):
                    decision = self._controller.decide(now)
                    if decision.recompute is not None:
                        self._controller.recomputing(decision, now)
                        yield self._order(decision, decision.recompute, now)
                if self._again and sending is None:
                    event, sending = await self._repeat(self._again.pop(0), now)
                    yield event
                    continue
                room = self._window - (self._sent - self._acknowledged)
                if sending is None and room > 0 and not self._controller.met:
                    decision = self._controller.decide(now)
                    if decision.fetch is not None:
                        self._controller.fetching(decision, now)
                        sending = self._open(decision.fetch, decision.level, now)
                        yield self._begun(sending, decision, now)
                        continue
                # Whole frames only: small ones would cost more than they carry.
                if sending is not None and room >= min(self._frame_size(), sending.size - sending.sent):
                    event, over = await self._piece(sending)
                    yield event
                    sending = None if over else sending
                    continue
                if self._controller.met and not (self._ordered or self._pending or self._again or sending):
                    break
                if sending is not None and now >= sending.check_at:
                    abandoned = self._late(sending, now)
                    if abandoned is not None:
                        yield abandoned
                        sending = self._drop(sending)
                        self._changed.set()  # the plan has changed, though nobody has reported
                    continue
                await self._wait(sending, start)
        finally:
            if sending is not None:
                self._drop(sending)
        yield Event(
            ended=Event.Ended(
                sent_bytes=self._sent,
                seconds=self._clock() - start,
                loss=self._loss(),
                recomputed_chunks=len(self._by_text),
            )
        )

    def _may_order(self, now: float) -> bool:
        """Whether the compute lane is free, and enough is known of the link to use it well."""
        self._unknown = self._unknown and not self._measured[0] and now < FIRST_ORDER
        return self._load.recompute and not (self._unknown or self._ordered or self._controller.met)

    def _order(self, decision: Decision, chunk: int, now: float) -> Event:
        self._ordered.add(chunk)
        self._by_text.add(chunk)
        self._levels.pop(chunk, None)
        self._pending.discard(chunk)
        message = decision_message(decision, chunk, TEXT, self._first, now)
        return Event(recompute=Event.Recompute(decision=message))

    def _open(self, chunk: int, level: str, now: float) -> Sending:
        size = self._encoding(chunk, level).size_bytes
        sending = Sending(chunk, level, size, now, self._sent)
        ahead = self._sent - self._acknowledged
        sending.check_at = now + LATE * (ahead + size) / (self._controller.bandwidth / CAUTION)
        self._levels[chunk] = level
        self._pending.add(chunk)
        self._tried.setdefault(chunk, set()).add(level)
        return sending

    def _begun(self, sending: Sending, decision: Decision, now: float) -> Event:
        message = decision_message(decision, sending.chunk, sending.level, self._first, now)
        return Event(chunk=Event.ChunkBegin(decision=message, size_bytes=sending.size))

    async def _piece(self, sending: Sending) -> tuple[Event, bool]:
        """Return the next data of a chunk and whether it was the last; or that the chunk is damaged here."""
        try:
            if sending.pieces is None:
                digest = self._encoding(sending.chunk, sending.level).artifact
                sending.pieces = await asyncio.to_thread(self._read, digest)
            if not sending.piece:
                sending.piece = await asyncio.to_thread(next, sending.pieces, b"")
                if not sending.piece:
                    raise DataLoss(Reason.ARTIFACT_CORRUPT, "A stored chunk is shorter than its record says.")
        except (DataLoss, NotFound) as error:
            self._again.append(sending.chunk)
            gone = Event.Abandoned(chunk=self._first + sending.chunk, reason=error.message)
            self._drop(sending)
            return Event(abandoned=gone), True
        frame = self._frame_size()
        data, sending.piece = sending.piece[:frame], sending.piece[frame:]
        event = Event.Data(chunk=self._first + sending.chunk, offset=sending.sent, data=data)
        sending.sent += len(data)
        self._sent += len(data)
        over = sending.sent >= sending.size
        if over:
            self._drop(sending)
        return Event(data=event), over

    def _frame_size(self) -> int:
        """Bytes of the next frame: small ones first, which soon tell something of a slow link, then twice as large."""
        return min(self._frame, max(SMALLEST_FRAME, self._sent))

    def _drop(self, sending: Sending) -> None:
        if sending.pieces is not None:
            with suppress(PalimpsestError, ValueError):
                sending.pieces.close()

    async def _repeat(self, chunk: int, now: float) -> tuple[Event, Sending | None]:
        """Send a chunk again that did not arrive whole: at a level not tried yet, else by its text."""
        decision = self._controller.decide(now)
        stored = [e.level for e in self._context.chunks[self._first + chunk].encodings]
        allowed = [option.level for option in self._load.chunks[0].options]
        left = [level for level in stored if level in allowed and level not in self._tried[chunk]]
        if left:
            sending = self._open(chunk, left[0], now)
            return self._begun(sending, decision, now), sending
        if self._load.recompute:
            return self._order(decision, chunk, now), None
        raise DataLoss(
            Reason.KV_DAMAGED,
            f"Chunk {self._first + chunk} of {self._context.name} cannot be read at any level asked for; recompute it "
            "from its tokens, or create the context again.",
            metadata={"chunk": self._first + chunk},
        )

    def _late(self, sending: Sending, now: float) -> Event | None:
        """Ask the controller about a chunk that is late; returns the farewell if it is given up."""
        arrived = max(0, self._acknowledged - sending.first)
        if sending.chunk == self._controller.back and self._controller.stalled(
            arrived, max(now - sending.begun, 1e-6), now
        ):
            self._levels.pop(sending.chunk, None)
            self._pending.discard(sending.chunk)
            reason = "late: doing it again ends sooner"
            return Event(abandoned=Event.Abandoned(chunk=self._first + sending.chunk, reason=reason))
        sending.check_at = now + LATE * max(
            (sending.size - arrived) / (self._controller.bandwidth / CAUTION), SHORTEST_MEASURE
        )
        return None

    async def _wait(self, sending: Sending | None, start: float) -> None:
        """Sleep until the receiver says something, or a chunk is late."""
        if self._closed:
            raise _abandoned("The receiver ended its side before the load had ended.")
        # Recomputing may take longer than anything else a receiver does without a word.
        longest = max((self._load.chunks[at].recompute for at in self._ordered), default=0.0)
        idle = max(self._idle, 4 * longest * self._load.sharers)
        now = self._clock() - start
        late = sending.check_at - now if sending is not None else idle
        unknown = FIRST_ORDER - now if self._unknown else idle
        self._waiting = True
        try:
            await asyncio.wait_for(self._changed.wait(), max(0.001, min(late, unknown, idle)))
        except TimeoutError:
            if self._unknown:
                self._changed.set()  # nobody has reported, and that says enough
            elif late >= idle:
                raise _abandoned(f"The receiver has reported nothing for {idle:.0f} s.") from None
        finally:
            self._waiting, self._moved = False, self._clock()

    def _encoding(self, chunk: int, level: str) -> pb.Encoding:
        encodings = self._context.chunks[self._first + chunk].encodings
        return next(e for e in encodings if e.level == level)

    def _loss(self) -> float:
        losses = {option.level: option.loss for option in self._load.chunks[0].options}
        lost = sum(losses[level] * self._load.chunks[at].tokens for at, level in self._levels.items())
        return lost / sum(chunk.tokens for chunk in self._load.chunks)


def _abandoned(message: str) -> DeadlineExceeded:
    return DeadlineExceeded(Reason.LOAD_ABANDONED, message + " Load it again.")


def _bare(context: pb.Context) -> pb.Context:
    """A context as receivers see it: sizes, but no digests of what they get anyway."""
    bare = pb.Context()
    bare.CopyFrom(context)
    bare.ClearField("tokens_artifact")
    for chunk in bare.chunks:
        for encoding in chunk.encodings:
            encoding.ClearField("artifact")
    return bare
