"""Receiving a context: frames from a script over real sockets, in both clients."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.client.aio.loads import BACKLOG
from palimpsest.client.loading import Abandoned, ChunkLoaded, Ended, Opened, RecomputeChunk
from palimpsest.errors import DataLoss, FailedPrecondition, Reason, Unavailable
from palimpsest.kv import decode
from tests.integration.client.proxy import CuttingProxy
from tests.integration.client.twins import Twin
from tests.unit.client.scripted import Event, Stored, same
from tests.waiting import until_async

LOADING = ("palimpsest-client", "palimpsest-decode")


@pytest.fixture(scope="module")
def stored():
    return Stored()


@asynccontextmanager
async def inside(twin, receiving):
    """The receiving's own with block."""
    yield await twin.call(receiving.__enter__ if twin.blocking else receiving.__aenter__)
    await twin.call(receiving.__exit__ if twin.blocking else receiving.__aexit__, None, None, None)


async def everything(twin, receiving):
    return [event async for event in twin.each(receiving)]


def threads():
    """Those of loads; the pool that entropy-decodes stays, for all loads of the process."""
    return [thread.name for thread in threading.enumerate() if thread.name in LOADING]


async def test_events_come_in_order_and_every_message_has_its_receipt(twin, server, stored):
    before = threads()  # other tests of this process may have some going on

    async def script(begin, reports):
        for event in stored.opening():
            yield event
        sent = 0
        for index in (2, 1, 0):
            for event in stored.sending(index):
                yield event
                if event.HasField("data"):
                    sent += len(event.data.data)
                    receipt = await reports.until("receipt")
                    assert receipt.received_bytes == sent
        while len(reports.all("accepted")) < 3:
            await reports.next()
        yield stored.end()

    server.script = script
    settings = {"mode": "quality", "deadline_seconds": 9.0}
    receiving = twin.client.codec.receive(
        "contexts/x", settings=settings, model_fingerprint="tiny", threads=2
    )
    opened, *loaded, ended = await everything(twin, receiving)
    await server.over.wait()
    assert server.outcome == "whole"
    assert server.begin.settings.mode == pb.LoadSettings.MODE_QUALITY
    assert server.begin.model_fingerprint == "tiny"
    assert isinstance(opened, Opened)
    assert opened.token_ids.tolist() == stored.ids.tolist()
    assert [event.index for event in loaded] == [2, 1, 0]
    for event in loaded:
        assert isinstance(event, ChunkLoaded)
        assert same(event.kv, decode(stored.coded[event.index]["balanced"]))
        assert event.size_bytes == len(stored.coded[event.index]["balanced"])
        assert event.decision.finish_seconds == 1.0
    assert ended == Ended(5, 1.5, 0.25, 0)
    busy = [receipt.busy_seconds for receipt in server.reports.all("receipt")]
    assert busy == sorted(busy)
    await until_async(lambda: asyncio.sleep(0, len(threads()) <= len(before)))


async def test_time_without_anything_on_its_way_does_not_count(twin, server, stored):
    idle = []

    async def script(begin, reports):
        for event in stored.opening(chunks=2):
            yield event
        for event in stored.sending(1):
            yield event
        await reports.until("accepted")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until_async(lambda: asyncio.sleep(0, loop.time() - began > 0.3))
        idle.append(loop.time() - began)
        for event in stored.sending(0):
            yield event
        await reports.until("accepted")
        yield stored.end()

    server.script = script
    loop = asyncio.get_running_loop()
    began = loop.time()
    await everything(twin, twin.client.codec.receive("contexts/x", chunks=2))
    assert server.reports.all("receipt")[-1].busy_seconds <= loop.time() - began - idle[0]


async def test_a_consumer_that_takes_nothing_stops_the_load(twin, server):
    stored = Stored(BACKLOG + 2)
    taking, sent_one_more, taken_first = asyncio.Event(), asyncio.Event(), []

    async def script(begin, reports):
        for event in stored.opening():
            yield event
        for index in reversed(range(BACKLOG + 2)):
            for event in stored.sending(index):
                yield event
            if index == 1:
                sent_one_more.set()
                await reports.until("receipt")
                taken_first.append(taking.is_set())
            await reports.until("accepted", index)
        yield stored.end()

    server.script = script
    receiving = twin.client.codec.receive("contexts/x")
    async with inside(twin, receiving):
        await sent_one_more.wait()
        taking.set()
        events = await everything(twin, receiving)
    assert taken_first == [True]
    assert len(events) == BACKLOG + 4


@pytest.mark.parametrize("where", ["magic", "header", "section", "footer"])
async def test_a_damaged_chunk_is_rejected_and_comes_again(twin, server, stored, where):
    size = len(stored.coded[0]["balanced"])
    damage = {"magic": 1, "header": 40, "section": size // 2, "footer": size - 1}[where]

    async def script(begin, reports):
        for event in stored.opening(chunks=1):
            yield event
        for event in stored.sending(0, damage=damage):
            yield event
        assert (await reports.until("rejected")).chunk == 0
        for event in stored.sending(0, "smallest"):
            yield event
        await reports.until("accepted", 0)
        yield stored.end()

    server.script = script
    events = await everything(twin, twin.client.codec.receive("contexts/x", chunks=1))
    assert [type(event) for event in events] == [Opened, ChunkLoaded, Ended]
    assert events[1].level == "smallest"
    assert same(events[1].kv, decode(stored.coded[0]["smallest"]))
    frames = -(-size // 700) + -(-len(stored.coded[0]["smallest"]) // 700)
    assert len(server.reports.all("receipt")) == frames


async def test_a_chunk_that_stays_damaged_is_an_error(twin, server, stored):
    async def script(begin, reports):
        for event in stored.opening(chunks=1):
            yield event
        while True:
            for event in stored.sending(0, damage=300):
                yield event
            await reports.until("rejected")

    server.script = script
    with pytest.raises(DataLoss):
        await everything(twin, twin.client.codec.receive("contexts/x", chunks=1))
    await server.over.wait()


async def test_an_abandoned_chunk_comes_coarser(twin, server, stored):
    async def script(begin, reports):
        for event in stored.opening(chunks=1):
            yield event
        for event in list(stored.sending(0))[:3]:
            yield event
        await reports.until("receipt")
        yield Event(abandoned=Event.Abandoned(chunk=0, reason="late"))
        for event in stored.sending(0, "smallest"):
            yield event
        await reports.until("accepted")
        yield stored.end()

    server.script = script
    _, gone, loaded, _ = await everything(twin, twin.client.codec.receive("contexts/x", chunks=1))
    assert gone == Abandoned(0, "late")
    assert loaded.level == "smallest"
    assert server.reports.all("rejected") == []


async def test_orders_to_recompute_come_at_once_with_their_ids(twin, server, stored):
    async def script(begin, reports):
        for event in stored.opening():
            yield event
        yield stored.order(1)
        done = await reports.until("recomputed")
        assert (done.chunk, done.seconds) == (1, 0.5)
        yield stored.end()

    server.script = script
    receiving = twin.client.codec.receive("contexts/x", chunks=3, held_chunks=1)
    async with inside(twin, receiving):
        kinds = []
        async for event in twin.each(receiving):
            kinds.append(type(event))
            if isinstance(event, RecomputeChunk):
                assert event.ids.tolist() == stored.ids[24:48].tolist()
                receiving.recomputed(event.index, 0.5)
    assert kinds == [Opened, RecomputeChunk, Ended]
    assert server.begin.held_chunks == 1


async def test_layers_are_told_of_before_the_chunk_is_whole(twin, server, stored):
    told = []

    async def script(begin, reports):
        for event in stored.opening(chunks=1):
            yield event
        for event in stored.sending(0, frame=200):
            yield event
        await reports.until("accepted")
        yield stored.end()

    server.script = script
    receiving = twin.client.codec.receive(
        "contexts/x", chunks=1, on_layers_ready=lambda chunk, layers: told.append((chunk.index, layers))
    )
    events = await everything(twin, receiving)
    assert told[-1] == (0, 4)
    assert told == sorted(told)
    assert isinstance(events[1], ChunkLoaded)


async def test_leaving_ends_the_call_and_the_threads(twin, server, stored):
    async def script(begin, reports):
        for event in stored.opening(chunks=1):
            yield event
        for event in list(stored.sending(0))[:3]:
            yield event
        while True:
            await reports.next()

    server.script = script
    receiving = twin.client.codec.receive("contexts/x", chunks=1)
    async with inside(twin, receiving):
        events = twin.each(receiving)
        assert isinstance(await anext(events), Opened)
    await server.over.wait()
    assert server.outcome not in ("", "whole")
    assert "palimpsest-decode" not in threads()
    assert await everything(twin, receiving) == []


async def test_a_cancelled_task_ends_the_call(twin, server, stored):
    if twin.blocking:
        pytest.skip("threads have no cancellation")
    started = asyncio.Event()

    async def script(begin, reports):
        for event in stored.opening(chunks=1):
            yield event
        for event in list(stored.sending(0))[:3]:
            yield event
        while True:
            await reports.next()

    async def consume():
        async with twin.client.codec.receive("contexts/x", chunks=1) as events:
            async for _ in events:
                started.set()

    server.script = script
    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.over.wait()
    assert "palimpsest-decode" not in threads()


async def test_a_connection_that_breaks_is_unavailable(twin, server, stored):
    stuck = asyncio.Event()

    async def script(begin, reports):
        for event in stored.opening(chunks=1):
            yield event
        for event in list(stored.sending(0))[:3]:
            yield event
        await reports.until("receipt")
        stuck.set()
        while True:
            await reports.next()

    server.script = script
    async with CuttingProxy(server.target, []) as proxy:
        cut = Twin(type(twin.client)(proxy.target))
        loading = asyncio.create_task(everything(cut, cut.client.codec.receive("contexts/x", chunks=1)))
        await stuck.wait()
        proxy.cut_all()
        with pytest.raises(Unavailable):
            await loading
        await cut.close()


def curve(seconds):
    return {"recompute": [{"tokens": 67, "seconds": seconds}]}


async def recomputing(twin, receiving, events, heard=lambda: True):
    """Every event; what is to be recomputed is so at once, once ``heard`` says that the server knows of it."""
    async for event in twin.each(receiving):
        events.append(event)
        if isinstance(event, RecomputeChunk):
            await until_async(lambda: asyncio.sleep(0, heard()))
            receiving.recomputed(event.index, 0.01)


async def test_a_stream_that_stalls_is_finished_from_the_text(twin, server):
    stored, events = Stored(), []
    stored.context.levels.add(level="balanced", loss=0.67)

    async def script(begin, reports):
        for event in stored.opening():
            yield event
        for event in stored.sending(2):
            yield event
        while True:
            await reports.next()

    server.script = script
    receiving = twin.client.codec.receive("contexts/x", settings=curve(3.0))
    await recomputing(twin, receiving, events, heard=lambda: server.reports.all("recomputing"))
    assert [type(event) for event in events] == [Opened, ChunkLoaded, RecomputeChunk, RecomputeChunk, Ended]
    assert [event.index for event in events[1:4]] == [2, 0, 1]
    assert events[2].ids.tolist() == stored.ids[:24].tolist()
    assert events[4].loss == pytest.approx(0.67 * 19 / 67)
    assert events[4].recomputed_chunks == 2
    assert events[4].sent_bytes == events[1].size_bytes
    await server.over.wait()
    assert server.outcome not in ("", "whole")
    assert [each.chunk for each in server.reports.all("recomputing")][:1] == [0]


async def test_an_order_that_crosses_with_the_receivers_own_start_counts_once(twin, server, stored):
    events = []

    async def script(begin, reports):
        for event in stored.opening():
            yield event
        taken = await reports.until("recomputing")
        yield stored.order(taken.chunk)
        for index in (2, 1):
            for event in stored.sending(index):
                yield event
        await reports.until("accepted", 1)
        yield stored.end()

    server.script = script
    await recomputing(twin, twin.client.codec.receive("contexts/x", settings=curve(30.0)), events)
    orders = [event.index for event in events if isinstance(event, RecomputeChunk)]
    assert orders == sorted(set(orders))
    assert sorted(orders + [e.index for e in events if isinstance(e, ChunkLoaded)]) == [0, 1, 2]
    assert isinstance(events[-1], Ended)


async def test_a_connection_that_breaks_is_no_matter_to_a_receiver_that_recomputes(twin, server, stored):
    stuck, events = asyncio.Event(), []

    async def script(begin, reports):
        for event in stored.opening():
            yield event
        for event in stored.sending(2):
            yield event
        await reports.until("accepted", 2)
        stuck.set()
        while True:
            await reports.next()

    server.script = script
    async with CuttingProxy(server.target, []) as proxy:
        cut = Twin(type(twin.client)(proxy.target))
        receiving = cut.client.codec.receive("contexts/x", settings=curve(3000.0))
        loading = asyncio.create_task(recomputing(cut, receiving, events))
        await stuck.wait()
        proxy.cut_all()
        await loading
        await cut.close()
    assert [type(event) for event in events] == [Opened, ChunkLoaded, RecomputeChunk, RecomputeChunk, Ended]


async def test_a_decoder_slower_than_the_model_is_given_up(twin, server, stored):
    events, decoding, over = [], threading.Event(), threading.Event()

    async def script(begin, reports):
        for event in stored.opening():
            yield event
        for index in (2, 1, 0):
            for event in stored.sending(index):
                yield event
        while True:
            await reports.next()

    def slow(_chunk, _layers):
        decoding.set()
        assert over.wait(60)

    server.script = script
    receiving = twin.client.codec.receive("contexts/x", settings=curve(0.6), on_layers_ready=slow)
    try:
        await recomputing(twin, receiving, events)
    finally:
        over.set()
    assert decoding.is_set()
    assert [type(event) for event in events] == [Opened, *[RecomputeChunk] * 3, Ended]
    assert events[-1].loss == 0


async def test_a_receiver_that_has_everything_does_not_wait_for_the_end(twin, server, stored):
    events = []

    async def script(begin, reports):
        for event in stored.opening():
            yield event
        for index in (2, 1, 0):
            for event in stored.sending(index):
                yield event
        while True:
            await reports.next()

    server.script = script
    await recomputing(twin, twin.client.codec.receive("contexts/x", settings=curve(30.0)), events)
    assert [type(event) for event in events] == [Opened, *[ChunkLoaded] * 3, Ended]


async def test_another_model_is_refused_by_server_and_by_receiver(twin, server, stored):
    async def refuse(begin, reports):
        raise FailedPrecondition(Reason.KV_IDENTITY_MISMATCH, "another model")
        yield

    server.script = refuse
    with pytest.raises(FailedPrecondition, match="another model"):
        await everything(twin, twin.client.codec.receive("contexts/x", model_fingerprint="other"))

    swapped = Stored(1, model="other")

    async def lie(begin, reports):
        for event in swapped.opening():
            yield event
        for event in swapped.sending(0):
            yield event
        await reports.until("accepted")

    server.script = lie
    with pytest.raises(FailedPrecondition) as wrong:
        await everything(twin, twin.client.codec.receive("contexts/x"))
    assert wrong.value.metadata["field"] == "model"


async def test_a_chunk_of_another_text_is_refused(twin, server, stored):
    async def script(begin, reports):
        for event in stored.opening():
            yield event
        for event in stored.sending(1):
            event = Event.FromString(event.SerializeToString())
            if event.HasField("chunk"):
                event.chunk.decision.chunk = 0
            else:
                event.data.chunk = 0
            yield event
        await reports.until("accepted")

    server.script = script
    with pytest.raises(FailedPrecondition) as wrong:
        await everything(twin, twin.client.codec.receive("contexts/x"))
    assert wrong.value.metadata["field"] == "prefix"


async def test_wrong_token_ids_are_noticed(twin, server, stored):
    async def script(begin, reports):
        first, *rest = stored.opening(pieces=1)
        yield first
        yield Event(tokens=Event.TokenIds(start=0, ids=rest[0].tokens.ids[::-1]))
        await reports.next()

    server.script = script
    with pytest.raises(DataLoss, match="token ids"):
        await everything(twin, twin.client.codec.receive("contexts/x"))


async def test_an_end_before_everything_is_there_is_noticed(twin, server, stored):
    async def script(begin, reports):
        for event in stored.opening():
            yield event

    server.script = script
    with pytest.raises(DataLoss, match="load the context again"):
        await everything(twin, twin.client.codec.receive("contexts/x"))
