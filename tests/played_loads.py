"""Whole loads, played in virtual time: the server's real session, the receiver's real logic, and links of every temper.

Only the edges are modelled: a link that passes bytes in order at a rate that changes, with a transport's buffer before
it; a processor that decoding and recomputing share; a decoder that takes time instead of making tensors. What decides
is the code that serves: ``LoadSession`` with its controller and window, ``LoadReceiver`` with its lane. Played time
costs nothing, so that two hundred loads over bad links take a minute.
"""

import asyncio
import hashlib
import math
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.client.decoder import Coming, Decoder
from palimpsest.client.load_receiver import LoadReceiver
from palimpsest.client.loading import ChunkLoaded, Ended, Event, RecomputeChunk
from services.codec.convert import report
from services.codec.loads import LoadSession
from services.codec.plans import plan

LEVELS = (("near-lossless", 2534, 0.003), ("balanced", 1567, 0.011), ("smallest", 922, 0.035))
"""Bytes and loss a token, as of SmolLM2-135M."""
RAW = 23_040
"""Bytes a token of its cache in bfloat16."""
BUFFER = 256 << 10
"""Bytes that a transport takes before it holds its writer back."""
FOREVER = 1e5
"""Seconds after which a load counts as one that never ends."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next thing that happens; work for threads is done on the spot."""

    def __init__(self) -> None:
        self._virtual = 0.0
        super().__init__(selectors.SelectSelector())
        select = self._selector.select

        def jump(timeout: float | None = None) -> Any:
            if timeout is None:
                raise AssertionError("everything waits for ever")
            self._virtual += timeout
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run at once: reading a stored chunk takes no virtual time."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except BaseException as error:
            done.set_exception(error)
        return done


@dataclass(frozen=True)
class Bad:
    """A link and a receiver.

    Parameters
    ----------
    rates, hold
        Bytes a second, one after another for ``hold`` seconds each; the last goes on for ever. 0: nothing passes.
    delay
        Seconds that anything takes beside that, each way.
    decoding
        How many times longer the receiver decodes than anybody expects.
    """

    rates: tuple[float, ...]
    hold: float
    delay: float = 0.01
    decoding: float = 1.0

    def rate(self, now: float) -> float:
        """Bytes a second at some time."""
        return self.rates[min(int(now / self.hold + 1e-9), len(self.rates) - 1)]

    def passed(self, now: float, size: float) -> float:
        """When the last of ``size`` bytes has passed, if the first may at ``now``; infinite: never."""
        while now < math.inf:
            step = int(now / self.hold + 1e-9)
            rate = self.rate(now)
            if step >= len(self.rates) - 1:
                return now + size / rate if rate else math.inf
            end = (step + 1) * self.hold
            if rate and now + size / rate <= end:
                return now + size / rate
            size -= (end - now) * rate
            now = end
        return now


class Pipe:
    """One direction of a connection: bytes in order, at the link's rate, and no more than ``BUFFER`` taken ahead."""

    def __init__(self, link: Bad, take: Callable[[Any], None]) -> None:
        self._link, self._take = link, take
        self._loop = asyncio.get_running_loop()
        self._free = 0.0
        self._waiting: deque[tuple[float, int]] = deque()

    async def send(self, message: Any) -> None:
        """Send; returns once the transport has taken it."""
        size, now = message.ByteSize() + 20, self._loop.time()
        self._free = self._link.passed(max(now, self._free), size)
        if self._free < math.inf:
            self._loop.call_at(self._free + self._link.delay, self._take, message)
        self._waiting.append((self._free, size))
        while True:
            now = self._loop.time()
            while self._waiting and self._waiting[0][0] <= now:
                self._waiting.popleft()
            if sum(size for _, size in self._waiting) <= BUFFER:
                return
            await asyncio.sleep(min(self._waiting[0][0] - now, FOREVER))


class Processor:
    """One processor that two kinds of work share: each has half of it while the other is at work."""

    def __init__(self) -> None:
        self._busy = 0
        self._changed = asyncio.Event()

    async def work(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Spend so many seconds of the processor, or until stopped."""
        loop, step = asyncio.get_running_loop(), seconds / 10
        self._busy += 1
        self._wake()
        try:
            while seconds > 1e-12 and not stopped():
                began, share = loop.time(), 1 / self._busy
                changed = self._changed
                # Work looks ten times whether it is still wanted, as decoding does between sections.
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(seconds, step) / share)
                seconds -= (loop.time() - began) * share
        finally:
            self._busy -= 1
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class PlayedDecoder:
    """What ``LoadReceiver`` needs of a decoder; chunks take their time on the processor, one after another."""

    land: Callable[[ChunkLoaded], bool]

    def __init__(self, processor: Processor, seconds: Callable[[int, str], float]) -> None:
        self.context, self.missing = pb.Context(), set[int]()
        self.profile: Future[None] = Future()
        self.deliver: Callable[[Any], None]
        self.report: Callable[[pb.LoadContextRequest], None]
        self._processor, self._seconds = processor, seconds
        self._queue: asyncio.Queue[Coming | Ended | None] = asyncio.Queue()
        self._working: tuple[Coming, float] | None = None

    def feed(self, coming: Coming, data: bytes, last: bool) -> None:
        """Count a chunk once its last bytes are here."""
        if last:
            self._queue.put_nowait(coming)

    def finish(self, ended: Ended | None) -> None:
        """Deliver the end after everything else."""
        self._queue.put_nowait(ended)

    def spent(self, now: float) -> tuple[int, float] | None:
        """The chunk that is being decoded, and for how long."""
        return self._working and (self._working[0].decision.chunk, now - self._working[1])

    async def run(self) -> None:
        """Decode for ever."""
        loop = asyncio.get_running_loop()
        while True:
            coming = await self._queue.get()
            if not isinstance(coming, Coming):
                self.deliver(coming)
                continue
            if coming.given_up:
                continue
            began, decision = loop.time(), coming.decision
            self._working = coming, began
            await self._processor.work(
                self._seconds(decision.chunk, decision.level), lambda coming=coming: coming.given_up
            )
            self._working = None
            loaded = ChunkLoaded(decision.chunk, decision.level, coming.size, cast(Any, None), decision)
            if not coming.given_up and self.land(loaded):
                accepted = pb.LoadContextRequest.Accepted(chunk=decision.chunk, seconds=loop.time() - began)
                self.report(pb.LoadContextRequest(accepted=accepted))


@dataclass(frozen=True)
class Played:
    """How a load went.

    Parameters
    ----------
    seconds
        From the token ids to the last chunk; infinite: it did not end.
    text
        Seconds of recomputing everything.
    chunk
        Seconds of recomputing the chunk that takes longest.
    levels
        How each chunk came.
    loss
        Nats a token, as the receiver was told.
    """

    seconds: float
    text: float
    chunk: float
    levels: tuple[str, ...]
    loss: float

    @property
    def late(self) -> float:
        """Seconds beyond 1.1 times the text and one chunk; negative: in time."""
        return self.seconds - 1.1 * self.text - self.chunk


def stored(tokens: int, chunk_tokens: int) -> tuple[pb.Context, bytes]:
    """A context of SmolLM2's sizes, and its token ids."""
    ids = np.arange(tokens, dtype="<u4").tobytes()
    made = pb.Context(name="contexts/c", token_count=tokens, chunk_tokens=chunk_tokens)
    for level, size, loss in LEVELS:
        made.levels.add(level=level, size_bytes=size * tokens, loss=loss)
    for start in range(0, tokens, chunk_tokens):
        count = min(chunk_tokens, tokens - start)
        digest = "sha256:" + hashlib.sha256(ids[: 4 * (start + count)]).hexdigest()
        chunk = made.chunks.add(start=start, tokens=count, prefix_digest=digest)
        for level, size, _ in LEVELS:
            chunk.encodings.add(level=level, artifact=f"{size * count}", size_bytes=size * count)
    return made, ids


def zeros(size: str) -> Generator[bytes]:
    """A stored chunk."""
    left = int(size)
    while left:
        yield bytes(min(left, 1 << 20))
        left -= min(left, 1 << 20)


async def load(context: pb.Context, ids: bytes, settings: pb.LoadSettings, link: Bad) -> Played:
    """Load a context over a link, from its session to its receiver."""
    loop = asyncio.get_running_loop()
    job = plan(context, settings, {})
    seconds = [chunk.recompute * job.sharers for chunk in job.chunks]
    session = LoadSession(context, ids, job, zeros, clock=loop.time, idle_seconds=FOREVER)
    processor, events = Processor(), asyncio.Queue[Event | None]()
    expected = {option.level: option.decode for option in job.chunks[0].options}
    share = {at: chunk.tokens / job.chunks[0].tokens for at, chunk in enumerate(job.chunks)}
    decoder = PlayedDecoder(processor, lambda chunk, level: expected[level] * share[chunk] * link.decoding)
    up = Pipe(
        replace(link, rates=tuple(1e6 if rate else 0.0 for rate in link.rates)), lambda m: report(m, session)
    )
    reports: asyncio.Queue[pb.LoadContextRequest] = asyncio.Queue()
    begin = pb.LoadContextRequest.Begin(name=context.name, settings=settings)
    receiver = LoadReceiver(events.put_nowait, reports.put_nowait, cast(Decoder, decoder), begin)
    decoder.deliver, decoder.report = events.put_nowait, reports.put_nowait
    down = Pipe(link, lambda message: receiver.take(message, loop.time()))
    tasks: list[asyncio.Task[Any]] = []

    def start(work: Coroutine[Any, Any, Any]) -> None:
        tasks.append(asyncio.create_task(work))

    async def serve() -> None:
        async for event in session.events():
            await down.send(event)
            session.taken()

    async def tell() -> None:
        while True:
            await up.send(await reports.get())

    orders: asyncio.Queue[RecomputeChunk] = asyncio.Queue()

    async def recompute() -> None:
        while True:
            order = await orders.get()
            began = loop.time()
            await processor.work(seconds[order.index])
            levels[order.index] = "recompute"
            receiver.recomputed(order.index, loop.time() - began)
            events.put_nowait(None)

    levels: dict[int, str] = {}
    opened = 0.0
    for work in (serve(), tell(), decoder.run(), recompute()):
        start(work)
    try:
        while loop.time() < FOREVER:
            # As ``AsyncReceiving`` does.
            wait = receiver.wait(loop.time())
            try:
                event = await asyncio.wait_for(events.get(), FOREVER if wait is None else max(wait, 0.0))
            except TimeoutError:
                receiver.go_on(loop.time())
                if receiver.left:
                    tasks[0].cancel()
                continue
            match event:
                case ChunkLoaded():
                    assert event.index not in levels
                    levels[event.index] = event.level
                case RecomputeChunk():
                    assert event.index not in levels
                    orders.put_nowait(event)
                case Ended():
                    assert sorted(levels) == list(range(len(seconds)))
                    came = tuple(levels[at] for at in range(len(seconds)))
                    return Played(loop.time() - opened, sum(seconds), max(seconds), came, event.loss)
                case None:
                    pass
                case _:
                    opened = opened or loop.time()
        return Played(math.inf, sum(seconds), max(seconds), (), 0.0)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def play(work: Coroutine[Any, Any, Played]) -> Played:
    """Run in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


KINDS = ("outliers", "drop", "decay", "dead", "slow decoder", "steady")


def drawn(seed: int) -> tuple[str, Played]:
    """Play the load of a seed: a context, a receiver and a link of the kind whose turn it is."""
    draw, kind = random.Random(seed), KINDS[seed % len(KINDS)]
    tokens, chunk = draw.choice([(4000, 512), (2048, 256), (8192, 512), (3000, 1024), (12_000, 512)])
    text = draw.uniform(0.5, 12.0)
    # A prefill that grows a little faster than its text.
    curve = [(share * tokens, text * (0.8 * share + 0.2 * share**2)) for share in (0.25, 0.5, 0.75, 1.0)]
    settings = pb.LoadSettings(
        recompute=[pb.RecomputePoint(tokens=int(at), seconds=seconds) for at, seconds in curve],
        decode_tokens_per_second=draw.uniform(5, 20) * tokens / text,
        loss_budget=draw.choice([0.0, 1.0]),
    )
    if draw.random() < 0.3:
        settings.deadline_seconds = draw.uniform(0.2, 1.0) * text
    tie, hold = RAW * tokens / text, draw.uniform(0.02, 0.2) * text
    link = {
        "outliers": lambda: outliers(draw, tie, hold),
        "drop": lambda: Bad((base := draw.uniform(0.02, 2) * tie, base / 100), hold),
        "decay": lambda: Bad(tuple(draw.uniform(0.05, 1) * tie * 0.6**at for at in range(40)), hold),
        "dead": lambda: Bad((draw.uniform(0.02, 2) * tie, 0.0), hold),
        "slow decoder": lambda: Bad((draw.uniform(0.1, 5) * tie,), hold, decoding=draw.uniform(2, 50)),
        "steady": lambda: Bad((10 ** draw.uniform(-3, -0.5) * tie,), hold),
    }[kind]()
    link = replace(link, delay=draw.choice([0.0005, 0.01, 0.05]))
    context, ids = stored(tokens, chunk)
    return kind, play(load(context, ids, settings, link))


def outliers(draw: random.Random, tie: float, hold: float) -> Bad:
    """A link that is now and then a hundred times slower or faster than it was."""
    base = draw.uniform(0.02, 0.5) * tie
    factors: Sequence[float] = (1.0, 1.0, 1.0, 0.01, 100.0)
    return Bad(tuple(base * draw.choice(factors) for _ in range(200)), hold / 4)
