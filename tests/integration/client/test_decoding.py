"""Streams of text: whole, abandoned, refused."""

import asyncio
import gc

import pytest

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from tests.integration.client.twins import Twin
from tests.waiting import until_async

MODEL = "decoding-tiny"


@pytest.fixture
async def model(twin, tiny_model):
    job = await twin.call(twin.client.models.register_model, model_id=MODEL, source=str(tiny_model))
    await twin.call(job.result, timeout=60)
    return MODEL


async def running(twin):
    info = await twin.call(twin.client.decoding.get_engine_info)
    return sum(each.running + each.waiting for each in info.models)


async def test_a_stream_from_start_to_end(twin, model):
    stream = twin.client.decoding.generate(model=model, prompt="the quick", max_tokens=12, n=2, logprobs=0)
    events = [event async for event in twin.each(stream)]
    assert events[0].WhichOneof("event") == "started"
    finished = [e.finished for e in events if e.HasField("finished")]
    assert sorted(f.index for f in finished) == [0, 1]
    for done in finished:
        deltas = [e.delta for e in events if e.HasField("delta") and e.delta.index == done.index]
        assert "".join(d.text for d in deltas) == done.text


async def test_text_is_the_text(twin, model):
    ask = {"model": model, "max_tokens": 10, "sampling": {"temperature": 1.0, "seed": 7}}
    chat = [{"role": "user", "content": "the quick"}]
    stream = twin.client.decoding.generate(chat=chat, **ask)
    whole = [e.finished.text async for e in twin.each(stream) if e.HasField("finished")]
    assert await twin.call(twin.client.decoding.text, chat=chat, **ask) == whole[0]
    with pytest.raises(TypeError, match="one sequence"):
        await twin.call(twin.client.decoding.text, prompt="x", n=2, **ask)


@pytest.mark.parametrize("how", ["close", "with", "drop"])
async def test_leaving_a_stream_stops_the_work(twin, model, how):
    stream = twin.client.decoding.generate(model=model, prompt="the", max_tokens=1900, ignore_eos=True)

    async def first_delta():
        async for event in twin.each(stream):
            if event.HasField("delta"):
                return

    await first_delta()
    if how == "close":
        stream.close()
        assert [event async for event in twin.each(stream)] == []
    elif how == "with":
        if twin.blocking:
            with stream:
                pass
        else:
            async with stream:
                pass
    else:
        del stream, first_delta
        gc.collect()

    async def idle():
        return await running(twin) == 0

    await until_async(idle)


async def test_a_streams_deadline_is_the_callers(twin, model):
    stream = twin.client.decoding.generate(
        model=model, prompt="the", max_tokens=1900, ignore_eos=True, timeout=0.3
    )
    with pytest.raises(DeadlineExceeded):
        async for _ in twin.each(stream):
            pass


async def test_refusals_come_from_iterating(twin, model):
    with pytest.raises(NotFound):
        async for _ in twin.each(twin.client.decoding.generate(model="nobody", prompt="x")):
            pass
    with pytest.raises(InvalidArgument) as wrong:
        async for _ in twin.each(twin.client.decoding.generate(model=model, prompt="x", n=65)):
            pass
    assert wrong.value.violations[0].field == "n"


async def test_calls_at_once_do_not_mix(twin, model):
    prompts = [f"number {i}" for i in range(6)]
    alone = [await twin.call(twin.client.decoding.text, model=model, prompt=p, max_tokens=8) for p in prompts]
    together = await asyncio.gather(
        *(twin.call(twin.client.decoding.text, model=model, prompt=p, max_tokens=8) for p in prompts)
    )
    assert together == alone


async def test_scores(twin, model):
    scored = await twin.call(twin.client.decoding.score, model=model, text="the quick brown fox")
    assert isinstance(scored, decoding_pb2.ScoreResponse)
    assert scored.total_logprob == pytest.approx(sum(t.logprob for t in scored.tokens))


async def test_nobody_answers(kind):
    twin = Twin(kind("127.0.0.1:1", timeout=5.0))
    with pytest.raises(Unavailable, match="palimpsest up"):
        await twin.call(twin.client.models.list_models)
    with pytest.raises(Unavailable):
        async for _ in twin.each(twin.client.decoding.generate(model="m", prompt="p")):
            pass
    await twin.close()


async def test_a_cancelled_task_cancels_the_call(twin, model):
    if twin.blocking:
        pytest.skip("threads have no cancellation")

    async def consume():
        async for _ in twin.client.decoding.generate(
            model=model, prompt="the", max_tokens=1900, ignore_eos=True
        ):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def idle():
        return await running(twin) == 0

    await until_async(idle)
