"""The server's side of one load.

The network lane sends chunks from the back of the context while the receiver recomputes chunks from the front as
ordered; ``palimpsest.kv.controller`` decides which and when. A window bounds what is on its way without a receipt: the
measured bandwidth is then that of the receiver, not of buffers along the way, and a decision is never far ahead.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import DataLoss, DeadlineExceeded, NotFound, Reason
from palimpsest.kv.controller import CAUTION, LATE
from palimpsest.kv.plan import Decision, Load
from services.codec.contexts import without_artifacts
from services.codec.loads.reports import Reports
from services.codec.loads.sender import ChunkSender
from services.codec.loads.window import SHORTEST_MEASURE, WINDOW
from services.codec.pages import parts_of
from services.codec.plans import RECOMPUTE, decision_message

Event = pb.LoadContextResponse
IDS_FRAME = 256 << 10


class LoadSession(Reports):
    """One load of a context: ``events`` is what the receiver gets, the other methods take its reports.

    Parameters
    ----------
    context
        With its chunks.
    ids
        Its token ids, little-endian 32-bit integers.
    load
        The controller's view of chunks ``first`` and after.
    first
        Leading chunks that the receiver has already.
    read
        Opens a stored chunk by its digest: a generator of verified blocks of bytes.
    window
        Most bytes on the way without a receipt; 0: ``WINDOW``.
    idle_seconds
        How long the receiver may report nothing while the load waits for it.
    clock
        Returns seconds.
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
        super().__init__(load, first, window, clock)
        self.context, self._read = context, read
        last = context.chunks[first + len(load.chunks) - 1]
        self._ids = ids[: 4 * (last.start + last.tokens)]
        self._idle = idle_seconds
        self._sender: ChunkSender | None = None
        self._waiting = False
        self._moved = self._start

    # The transport.

    def taken(self) -> None:
        """Note that the transport has taken an event."""
        self._moved = self._clock()

    async def watch(self, give_up: Callable[[], object]) -> None:
        """Call ``give_up`` once the transport has not moved for too long: the receiver does not read."""
        while True:
            await asyncio.sleep(self._idle / 4)
            if not self._waiting and self._clock() - self._moved > self._idle:
                give_up()
                return

    # What the receiver gets.

    async def events(self) -> AsyncGenerator[Event]:
        """Everything the receiver gets, in order.

        Raises
        ------
        DataLoss
            KV_DAMAGED: a chunk cannot be read at any level, and the receiver cannot recompute.
        DeadlineExceeded
            LOAD_ABANDONED: the receiver has reported nothing for too long, or ended its side.
        """
        chunks = self._first + len(self._load.chunks)
        opened, *more = parts_of(without_artifacts(self.context))
        yield Event(opened=Event.Opened(context=opened, chunks=chunks))
        for part in more:
            yield Event(more_chunks=Event.MoreChunks(chunks=part.chunks))
        for at in range(0, len(self._ids), IDS_FRAME):
            yield Event(tokens=Event.TokenIds(start=at // 4, ids=self._ids[at : at + IDS_FRAME]))
        self._start = self._clock()
        try:
            while True:
                if self._failure is not None:
                    raise self._failure
                # Planning costs more than sending a frame, so the compute lane is considered after a report only.
                news = self._changed.is_set() or self.window.sent == 0
                self._changed.clear()
                now = self._now
                if news and (order := self._next_order(now)) is not None:
                    yield order
                events = await self._send(now)
                for event in events or ():
                    yield event
                if events is None:
                    if self._over:
                        break
                    await self._wait()
        finally:
            self._drop()
        yield Event(
            ended=Event.Ended(
                sent_bytes=self.window.sent,
                seconds=self._now,
                loss=self._deliveries.loss,
                recomputed_chunks=len(self._orders.recomputed),
                over_budget=self._load.mode == "delay"
                and self._deliveries.loss > self._load.loss_budget * (1 + 1e-9),
            )
        )

    @property
    def _over(self) -> bool:
        return self._controller.met and not (self._orders or self._deliveries or self._sender)

    async def _send(self, now: float) -> list[Event] | None:
        """The next events of the network lane; None: it has to wait for a report, or until a chunk is late."""
        if self._sender is not None and self._sender.chunk in self._orders.recomputed:
            taken = self._sender
            self._drop()
            return [self._abandoned(taken, "the receiver recomputes it")]
        if self._sender is None:
            if self._deliveries.to_repeat:
                return [self._repeat(self._deliveries.next_repeat(), now)]
            if self.window.room > 0 and (begun := self._next_chunk(now)) is not None:
                return [begun]
            return None
        # Whole frames only: small ones would cost more than they carry.
        if self.window.room >= min(self.window.frame, self._sender.left):
            return [await self._frame(self._sender)]
        if now >= self._sender.check_at:
            return self._late(self._sender, now)
        return None

    def _next_order(self, now: float) -> Event | None:
        """Order the next chunk of the compute lane, if there is one and the receiver is free."""
        if self._controller.met or not self._orders.may_order(now, self._controller.compute_free):
            return None
        decision = self._controller.decide(now)
        if decision.recompute is None:
            return None
        self._controller.recomputing(decision, now)
        return self._order(decision, decision.recompute, now)

    def _order(self, decision: Decision, chunk: int, now: float) -> Event:
        self._orders.order(chunk)
        self._deliveries.cancel(chunk)
        message = decision_message(decision, chunk, RECOMPUTE, self._first, now)
        return Event(recompute=Event.Recompute(decision=message))

    def _next_chunk(self, now: float) -> Event | None:
        """Begin the next chunk of the network lane, if there is one."""
        if self._controller.met:
            return None
        decision = self._controller.decide(now)
        if decision.fetch is None:
            return None
        self._controller.fetching(decision, now)
        return self._begin(decision, decision.fetch, decision.level, now)

    def _repeat(self, chunk: int, now: float) -> Event:
        """Send a chunk again that did not arrive whole: at a level not tried yet, or else have it recomputed."""
        decision = self._controller.decide(now)
        stored = [e.level for e in self.context.chunks[self._first + chunk].encodings]
        allowed = [option.level for option in self._load.chunks[0].options]
        level = self._deliveries.untried(chunk, [level for level in stored if level in allowed])
        if level is not None:
            return self._begin(decision, chunk, level, now)
        if self._load.recompute:
            self._controller.lost(chunk)
            return self._order(decision, chunk, now)
        raise DataLoss(
            Reason.KV_DAMAGED,
            f"Chunk {self._first + chunk} of {self.context.name} cannot be read at any level asked for; recompute it "
            "from its tokens, or create the context again.",
            metadata={"chunk": self._first + chunk},
        )

    def _begin(self, decision: Decision, chunk: int, level: str, now: float) -> Event:
        encodings = self.context.chunks[self._first + chunk].encodings
        encoding = next(e for e in encodings if e.level == level)
        sender = ChunkSender(
            chunk, level, encoding.size_bytes, now, self.window, lambda: self._read(encoding.artifact)
        )
        sender.check_at = self._due(now, self.window.on_way + sender.size)
        self._sender = sender
        self._deliveries.begin(chunk, level)
        message = decision_message(decision, chunk, level, self._first, now)
        return Event(chunk=Event.ChunkBegin(decision=message, size_bytes=sender.size))

    async def _frame(self, sender: ChunkSender) -> Event:
        """Send the next frame of a chunk; a chunk that cannot be read is abandoned here and sent again."""
        offset = sender.sent
        try:
            data = await sender.frame()
        except (DataLoss, NotFound) as error:
            self._deliveries.repeat(sender.chunk)
            self._drop()
            return self._abandoned(sender, error.message)
        self.window.send(len(data), self._now)
        if sender.left <= 0:
            self._drop()
        return Event(data=Event.Data(chunk=self._first + sender.chunk, offset=offset, data=data))

    def _late(self, sender: ChunkSender, now: float) -> list[Event]:
        """Reconsider a chunk that is late; returns the event that it is abandoned, if it is."""
        arrived = sender.arrived
        seconds = max(now - sender.begun - self._travel, 1e-6)
        if sender.chunk == self._controller.back and self._controller.stalled(arrived, seconds, now):
            self._deliveries.cancel(sender.chunk)
            self._drop()
            self._changed.set()  # the plan has changed without a report
            return [self._abandoned(sender, "late: doing it again ends sooner")]
        sender.check_at = self._due(now, max(sender.size - arrived, SHORTEST_MEASURE * self._link))
        return []

    def _due(self, now: float, size: float) -> float:
        """When receipts of the next ``size`` bytes are late."""
        return now + self._travel + LATE * size / self._link

    @property
    def _travel(self) -> float:
        """Seconds that data and their receipt take beside the link's rate, as far as is known."""
        return self.window.delay if self.window.delay < float("inf") else 0.0

    @property
    def _link(self) -> float:
        """Bytes a second that the link is thought to carry."""
        return self._controller.bandwidth / CAUTION

    def _abandoned(self, sender: ChunkSender, reason: str) -> Event:
        return Event(abandoned=Event.Abandoned(chunk=self._first + sender.chunk, reason=reason))

    def _drop(self) -> None:
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    async def _wait(self) -> None:
        """Wait for a report, or until a chunk is late."""
        if self._closed:
            raise _given_up("The receiver ended its side before the load had ended.")
        # A receiver that recomputes may report nothing for as long as that takes.
        idle = max(self._idle, 4 * self._orders.longest)
        now = self._now
        late = self._sender.check_at - now if self._sender is not None else idle
        unknown = self._orders.first_at - now if self._orders.unknown else idle
        self._waiting = True
        try:
            await asyncio.wait_for(self._changed.wait(), max(0.001, min(late, unknown, idle)))
        except TimeoutError:
            if self._orders.unknown:
                self._changed.set()  # no report by now: the link is slow
            elif late >= idle:
                raise _given_up(f"The receiver has reported nothing for {idle:.0f} s.") from None
        finally:
            self._waiting, self._moved = False, self._clock()


def _given_up(message: str) -> DeadlineExceeded:
    return DeadlineExceeded(Reason.LOAD_ABANDONED, message + " Load it again.")
