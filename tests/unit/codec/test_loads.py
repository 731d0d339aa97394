"""One load against receivers of every temper: all chunks once, never more on the way than the window."""

import asyncio
import itertools
import random
from collections.abc import Generator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import DataLoss, DeadlineExceeded, InvalidArgument, Reason
from services.codec.convert import report
from services.codec.loads import FIRST_ORDER, SMALLEST_FRAME, LoadSession
from services.codec.loads.window import HORIZON, SHORTEST_MEASURE, Window
from services.codec.plans import plan

LEVELS = {"fine": (40_000, 0.001), "coarse": (10_000, 0.03)}
Report = pb.LoadContextRequest


def context(chunks: int) -> pb.Context:
    made = pb.Context(name="contexts/c", token_count=100 * chunks, chunk_tokens=100)
    for level, (size, loss) in LEVELS.items():
        made.levels.add(level=level, size_bytes=size * chunks, loss=loss)
    for at in range(chunks):
        chunk = made.chunks.add(start=100 * at, tokens=100)
        for level, (size, _) in LEVELS.items():
            chunk.encodings.add(level=level, artifact=f"{at}/{level}", size_bytes=size)
    return made


def stored(digest: str) -> bytes:
    chunk, level = digest.split("/")
    return bytes([int(chunk)]) * LEVELS[level][0]


def read(digest: str) -> Generator[bytes]:
    data = stored(digest)
    for at in range(0, len(data), 4096):
        yield data[at : at + 4096]


def session(chunks: int = 4, *, load_settings: pb.LoadSettings | None = None, **options) -> LoadSession:
    made = context(chunks)
    first = options.get("first", 0)
    load = plan(made, load_settings or pb.LoadSettings(loss_budget=1), {}, first)
    return LoadSession(made, bytes(4 * made.token_count), load, options.pop("read", read), **options)


class Receiver:
    """Takes a load's events as a real one would; ``reject`` chunks arrive damaged the first so many times."""

    def __init__(self, load: LoadSession, window: int, reject: dict[int, int] | None = None, seed: int = 0):
        self.load, self.window, self.reject, self.random = (
            load,
            window,
            dict(reject or {}),
            random.Random(seed),
        )
        self.received = 0
        self.coming: dict[int, tuple[int, bytearray]] = {}
        self.got: dict[int, str] = {}
        self.abandoned: list[int] = []
        self.end: pb.LoadContextResponse.Ended | None = None
        self.late: list[pb.LoadContextRequest] = []

    async def run(self) -> "Receiver":
        async with asyncio.timeout(20):
            async for event in self.load.events():
                self.take(event)
                assert self.received - self.load.window.acknowledged <= self.window
                if self.random.random() < 0.5:
                    await asyncio.sleep(0)
                    self.report()
                else:
                    # The session waits for reports only once it has nothing more to say.
                    asyncio.get_running_loop().call_soon(self.report)
        return self

    def report(self) -> None:
        late, self.late = self.late, []
        for request in late:
            report(request, self.load)

    def take(self, event: pb.LoadContextResponse) -> None:
        match event.WhichOneof("event"):
            case "chunk":
                begin = event.chunk
                assert begin.decision.chunk not in self.got
                self.coming[begin.decision.chunk] = (begin.size_bytes, bytearray())
                self.level = begin.decision.level
            case "data":
                self.data(event.data)
            case "recompute":
                chunk = event.recompute.decision.chunk
                assert chunk not in self.got
                self.got[chunk] = "recompute"
                self.late.append(Report(recomputed=Report.Recomputed(chunk=chunk, seconds=0.001)))
            case "abandoned":
                self.coming.pop(event.abandoned.chunk, None)
                self.abandoned.append(event.abandoned.chunk)
            case "ended":
                self.end = event.ended

    def data(self, data: pb.LoadContextResponse.Data) -> None:
        size, sofar = self.coming[data.chunk]
        assert data.offset == len(sofar)
        sofar += data.data
        self.received += len(data.data)
        busy = self.received / 1e6
        self.late.append(Report(receipt=Report.Receipt(received_bytes=self.received, busy_seconds=busy)))
        if len(sofar) < size:
            return
        del self.coming[data.chunk]
        if self.reject.get(data.chunk, 0) > 0:
            self.reject[data.chunk] -= 1
            self.late.append(Report(rejected=Report.Rejected(chunk=data.chunk)))
            return
        assert bytes(sofar) == stored(f"{data.chunk}/{self.level}")
        self.got[data.chunk] = self.level
        self.late.append(Report(accepted=Report.Accepted(chunk=data.chunk)))


SLOW = [pb.RecomputePoint(tokens=100, seconds=0.02)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    chunks=st.integers(1, 8),
    first=st.integers(0, 7),
    window=st.sampled_from([0, 1000, 20_000, 1 << 20]),
    recompute=st.booleans(),
    reject=st.dictionaries(st.integers(0, 7), st.integers(1, 1), max_size=3),
    level=st.sampled_from([[], ["fine"], ["coarse"]]),
    seed=st.integers(0, 1000),
)
def test_every_chunk_comes_once_whatever_happens(chunks, first, window, recompute, reject, level, seed):
    first = min(first, chunks - 1)
    asked = pb.LoadSettings(loss_budget=1, levels=level, recompute=SLOW if recompute else [])
    load = session(chunks, load_settings=asked, first=first, window=window)
    receiver = Receiver(load, window or 1 << 20, reject, seed)
    hopeless = level and not recompute and any(first <= chunk < chunks for chunk in reject)
    if hopeless:  # damaged at the only level there is, and nobody to recompute it
        with pytest.raises(DataLoss):
            asyncio.run(receiver.run())
        return
    asyncio.run(receiver.run())
    assert sorted(receiver.got) == list(range(first, chunks))
    assert receiver.end is not None
    assert receiver.end.sent_bytes == receiver.received
    assert receiver.end.recomputed_chunks == list(receiver.got.values()).count("recompute")
    losses, worst = [], 0.0
    for at in range(first, chunks):  # what is recomputed after lossy chunks has lost as much as they
        losses.append(worst if receiver.got[at] == "recompute" else LEVELS[receiver.got[at]][1])
        worst = max(worst, losses[-1])
    assert receiver.end.loss == pytest.approx(sum(losses) / (chunks - first))


def test_a_chunk_that_cannot_be_read_comes_at_another_level():
    def rotten(digest: str) -> Generator[bytes]:
        yield from (part for at, part in enumerate(read(digest)) if at < 2)
        if digest == "2/coarse":
            raise DataLoss(Reason.ARTIFACT_CORRUPT, "rotten")
        yield from (part for at, part in enumerate(read(digest)) if at >= 2)

    receiver = Receiver(session(read=rotten), 1 << 20)
    asyncio.run(receiver.run())
    assert receiver.got == {0: "coarse", 1: "coarse", 2: "fine", 3: "coarse"}
    assert receiver.abandoned == [2]


@pytest.mark.parametrize("ends", [True, False])
async def test_a_receiver_that_falls_silent_ends_the_load(ends):
    load = session(window=20_000, idle_seconds=0.05)
    with pytest.raises(DeadlineExceeded) as abandoned:  # noqa: PT012
        async for event in load.events():
            if ends and event.HasField("data"):
                load.close()
    assert abandoned.value.reason == Reason.LOAD_ABANDONED


async def test_a_transport_that_does_not_move_is_given_up():
    load = session(idle_seconds=0.05)
    events, gone = load.events(), asyncio.Event()
    await anext(events)
    async with asyncio.timeout(5):
        watching = asyncio.create_task(load.watch(gone.set))
        await gone.wait()
        await watching
    await events.aclose()


async def test_a_receiver_cannot_open_its_own_window():
    load = session(window=20_000)
    async for event in load.events():
        if event.HasField("data"):
            # A later report takes nothing back, and none counts for more than was sent.
            for reported, counted in ((1000, 1000), (0, 1000), (1 << 40, load.window.sent)):
                report(Report(receipt=Report.Receipt(received_bytes=reported, busy_seconds=0.1)), load)
                assert load.window.acknowledged == counted
            break


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"accepted": {"chunk": 4}}, "accepted.chunk"),
        ({"accepted": {"chunk": 0}}, "accepted.chunk"),
        ({"rejected": {"chunk": 1}}, "rejected.chunk"),
        ({"rejected": {"chunk": 9}}, "rejected.chunk"),
        ({"recomputed": {"chunk": 1, "seconds": 1.0}}, "recomputed.chunk"),
        ({"recomputed": {"chunk": 4, "seconds": 1.0}}, "recomputed.chunk"),
        ({"recomputing": {"chunk": 2}}, "recomputing.chunk"),
        ({"recomputing": {"chunk": 0}}, "recomputing.chunk"),
        ({"begin": {"name": "contexts/c"}}, "begin"),
        ({}, "part"),
    ],
)
async def test_a_malformed_report_is_refused_and_named(part, field):
    # Chunks 1 to 3; chunk 3 is on its way, nothing is ordered.
    load = session(first=1)
    events = load.events()
    async for event in events:
        if event.HasField("data"):
            break
    assert event.data.chunk == 3
    with pytest.raises(InvalidArgument) as refused:
        report(Report(**part), load)
    assert refused.value.reason == Reason.KV_REPORT_INVALID
    assert [violation.field for violation in refused.value.violations] == [field]
    load.fail(refused.value)
    with pytest.raises(InvalidArgument) as ended:
        await anext(events)
    assert ended.value is refused.value


async def test_reports_may_cross_with_what_the_server_does():
    asked = pb.LoadSettings(
        loss_budget=1, bandwidth=1.0, recompute=[pb.RecomputePoint(tokens=400, seconds=0.4)]
    )
    load = session(load_settings=asked, window=4000)
    events = load.events()
    ordered = [event async for event in _until(events, "recompute")][-1].recompute.decision.chunk
    assert ordered == 0
    report(Report(recomputing=Report.Recomputing(chunk=0)), load)  # the order was on its way
    report(Report(recomputed=Report.Recomputed(chunk=0, seconds=0.1)), load)
    report(Report(recomputed=Report.Recomputed(chunk=0, seconds=0.1)), load)
    for chunk in (1, 2, 3):
        report(Report(recomputing=Report.Recomputing(chunk=chunk)), load)
        report(Report(recomputed=Report.Recomputed(chunk=chunk, seconds=0.1)), load)
    rest = [event async for event in _until(events, "ended")]
    assert rest[-1].ended.recomputed_chunks == 4
    assert rest[-1].ended.loss == 0


async def _until(events, kind):
    async with asyncio.timeout(20):
        async for event in events:
            yield event
            if event.HasField(kind):
                return


async def test_a_chunk_that_the_receiver_takes_is_not_sent_any_further():
    asked = pb.LoadSettings(
        loss_budget=1,
        bandwidth=1e6,
        levels=["fine"],
        recompute=[pb.RecomputePoint(tokens=100, seconds=4.0)],
    )
    load = session(1, load_settings=asked, window=4000, clock=lambda: 0.0)
    events = load.events()
    begun = [event async for event in _until(events, "data")]
    report(Report(recomputing=Report.Recomputing(chunk=0)), load)
    report(Report(recomputed=Report.Recomputed(chunk=0, seconds=0.02)), load)
    rest = [event async for event in _until(events, "ended")]
    assert [event.WhichOneof("event") for event in rest] == ["abandoned", "ended"]
    assert rest[-1].ended.sent_bytes == sum(len(e.data.data) for e in begun) < 40_000
    assert rest[-1].ended.loss == 0


@pytest.mark.parametrize("rate", [2e4, 1e6])
def test_no_more_is_on_the_way_than_a_part_of_a_second_carries(rate):
    window, now = Window(1 << 20), 0.0
    for _ in range(400):
        while window.room >= window.frame:
            window.send(window.frame, now)
        size = min(2000, window.on_way)
        now += size / rate
        window.receipt(window.acknowledged + size, now, now)
    assert window.on_way <= (HORIZON + window.delay) * rate
    assert window.on_way >= HORIZON * rate - window.frame


async def test_a_late_chunk_is_given_up_for_a_sooner_way():
    # Expected to take 40 ms, and the link does not move: what the receiver can do itself is sooner.
    asked = pb.LoadSettings(
        deadline_seconds=0.35,
        bandwidth=1e6,
        levels=["fine"],
        recompute=[pb.RecomputePoint(tokens=400, seconds=0.4)],
    )
    load = session(load_settings=asked, window=4000)
    abandoned, text, end = [], [], None
    async for event in load.events():
        if event.HasField("recompute"):
            text.append(event.recompute.decision.chunk)
            report(Report(recomputed=Report.Recomputed(chunk=text[-1], seconds=0.1)), load)
        if event.HasField("abandoned"):
            abandoned.append(event.abandoned.chunk)
        if event.HasField("ended"):
            end = event.ended
    assert abandoned == [3]
    assert text == [0, 1, 2, 3]
    assert end is not None
    assert end.loss == 0


@pytest.mark.parametrize(
    ("busy", "orders"),
    [(0.002, 0), (0.8 * SHORTEST_MEASURE, 0), (20.0, 1)],
    ids=["fast", "too soon to tell", "slow"],
)
async def test_nothing_is_recomputed_before_the_link_has_shown_what_it_can(busy, orders):
    # The clock stands: only a report can bring the order, and only one of a link that is slower than recomputing.
    asked = pb.LoadSettings(
        loss_budget=1, levels=["fine"], recompute=[pb.RecomputePoint(tokens=400, seconds=4.0)]
    )
    load = session(load_settings=asked, window=40_000, clock=lambda: 0.0)
    events, seen = load.events(), []
    async for event in events:
        seen.append(event)
        if load.window.room < load.window.frame:  # it is full: all that comes now is news of the receiver
            break
    assert not [e for e in seen if e.HasField("recompute")]
    report(Report(receipt=Report.Receipt(received_bytes=load.window.sent, busy_seconds=busy)), load)
    following = await anext(events)
    assert following.HasField("recompute") == bool(orders)
    await events.aclose()


async def test_a_link_that_shows_nothing_counts_as_slow():
    times = itertools.chain([0.0] * 6, itertools.repeat(FIRST_ORDER))
    asked = pb.LoadSettings(
        loss_budget=1, levels=["fine"], recompute=[pb.RecomputePoint(tokens=400, seconds=0.01)]
    )
    load = session(load_settings=asked, window=16_384, clock=lambda: next(times))
    async with asyncio.timeout(5):
        async for event in load.events():
            if event.HasField("recompute"):
                break


async def test_frames_begin_small_and_grow():
    load, sizes = session(1, read=lambda _digest: (part for part in [bytes(300_000)])), []
    for encoding in load.context.chunks[0].encodings:
        encoding.size_bytes = 300_000
    async for event in load.events():
        if event.HasField("data"):
            sizes.append(len(event.data.data))
            report(Report(receipt=Report.Receipt(received_bytes=load.window.sent, busy_seconds=0.001)), load)
            if sum(sizes) == 300_000:
                report(Report(accepted=Report.Accepted(chunk=0)), load)
    assert sizes[0] == SMALLEST_FRAME
    assert sizes[:-1] == sorted(sizes[:-1])
    assert max(sizes) > 4 * SMALLEST_FRAME


@pytest.mark.parametrize(("budget", "level", "over"), [(1e-6, "fine", True), (1.0, "coarse", False)])
def test_a_budget_that_no_level_keeps_to_gets_the_finest_and_a_warning(budget, level, over):
    receiver = Receiver(session(load_settings=pb.LoadSettings(loss_budget=budget)), 1 << 20)
    asyncio.run(receiver.run())
    assert set(receiver.got.values()) == {level}
    assert receiver.end is not None
    assert receiver.end.over_budget == over


def test_losses_are_those_of_the_chunks_not_of_their_level():
    made = context(3)
    for at, chunk in enumerate(made.chunks):
        for encoding in chunk.encodings:
            encoding.loss = LEVELS[encoding.level][1] * (10 if at == 1 else 0.1)
    load = plan(made, pb.LoadSettings(loss_budget=0.01), {})
    assert [chunk.options[1].loss for chunk in load.chunks] == pytest.approx([0.003, 0.3, 0.003])
    receiver = Receiver(LoadSession(made, bytes(4 * made.token_count), load, read), 1 << 20)
    asyncio.run(receiver.run())
    assert receiver.got[1] == "fine", "the coarse level is too bad for this chunk, whatever it is for others"
    assert receiver.end is not None
    assert 0.01 / 3 < receiver.end.loss <= 0.01
    assert not receiver.end.over_budget
