"""The decoding room over a real socket, with the tiny model."""

import asyncio
import math
from collections.abc import AsyncIterator

import grpc
import pytest
from transformers import AutoTokenizer

from palimpsest import errors
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.api.decoding.v1 import decoding_pb2_grpc
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.rpc.server import Server
from palimpsest.status import from_rpc_error
from services.decoding import DecodingRoom
from tests.waiting import until_async


@pytest.fixture
async def served(settings, tiny_model) -> AsyncIterator[tuple[decoding_pb2_grpc.DecodingServiceStub, Server]]:
    quick = settings.model_copy(update={"dtype": "float32", "device": "cpu", "engine_cache_bytes": 8 << 20})
    server = Server(quick, [DecodingRoom()])
    await server.start()
    await asyncio.to_thread(register, "tiny", str(tiny_model), server.resources.models, quick, NullProgress())
    async with open_aio_channel(f"127.0.0.1:{server.port}") as channel:
        yield decoding_pb2_grpc.DecodingServiceStub(channel), server
    await server.stop(0.2)


async def collect(stub, **fields) -> list[pb.GenerateResponse]:
    try:
        return [event async for event in stub.Generate(pb.GenerateRequest(**{"model": "tiny", **fields}))]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def whole(events, index=0) -> pb.SequenceFinished:
    return next(
        e.finished for e in events if e.WhichOneof("event") == "finished" and e.finished.index == index
    )


async def test_a_stream_starts_grows_and_ends(served):
    stub, _ = served
    events = await collect(stub, prompt="the quick brown", max_tokens=20, n=2, ignore_eos=True, logprobs=2)
    assert events[0].WhichOneof("event") == "started"
    assert events[0].started.prompt_tokens > 0
    assert events[0].started.model_fingerprint.startswith("sha256:")
    for index in (0, 1):
        deltas = [e.delta for e in events if e.WhichOneof("event") == "delta" and e.delta.index == index]
        end = whole(events, index)
        assert "".join(d.text for d in deltas) == end.text
        assert sum(len(d.token_ids) for d in deltas) == end.generated_tokens == 20
        logprobs = [p for d in deltas for p in d.logprobs]
        assert [p.id for p in logprobs] == [t for d in deltas for t in d.token_ids]
        assert all(len(p.top) == 2 and p.top[0].logprob >= p.logprob - 1e-6 for p in logprobs)
        assert math.isclose(sum(p.logprob for p in logprobs), end.logprob, rel_tol=1e-5)
        assert end.reason == pb.FINISH_REASON_LENGTH


async def test_a_seed_repeats_and_an_unset_one_is_reported(served):
    stub, _ = served
    fields = {"prompt": "the lazy", "max_tokens": 12, "sampling": pb.SamplingConfig(temperature=1.5)}
    first = await collect(stub, **fields)
    again = pb.SamplingConfig(temperature=1.5, seed=first[0].started.seed)
    second = await collect(stub, **{**fields, "sampling": again})
    assert whole(first).text == whole(second).text


async def test_text_chat_and_tokens_are_the_same_prompt(served, tiny_model):
    stub, _ = served
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    chat = pb.ChatMessages(messages=[pb.ChatMessage(role="user", content="fox?")])
    text = "<|im_start|>user\nfox?<|im_end|>\n<|im_start|>assistant\n"
    tokens = pb.TokenIds(ids=tokenizer(text).input_ids)
    results = [
        await collect(stub, max_tokens=8, **{kind: value})
        for kind, value in {"chat": chat, "prompt": text, "tokens": tokens}.items()
    ]
    assert len({whole(events).text for events in results}) == 1
    assert len({events[0].started.prompt_tokens for events in results}) == 1


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"model": "absent", "prompt": "x"}, errors.NotFound, "MODEL_NOT_FOUND"),
        ({}, errors.InvalidArgument, "PROMPT_EMPTY"),
        ({"prompt": ""}, errors.InvalidArgument, "PROMPT_EMPTY"),
        ({"prompt": "x", "max_tokens": 5000}, errors.InvalidArgument, "PROMPT_TOO_LONG"),
        ({"tokens": pb.TokenIds(ids=[1, 70000])}, errors.InvalidArgument, "TOKEN_ID_OUT_OF_RANGE"),
        ({"prompt": "x", "stop": [""]}, errors.InvalidArgument, "STOP_EMPTY"),
        (
            {"prompt": "x", "sampling": pb.SamplingConfig(temperature=1, top_k=9999)},
            errors.InvalidArgument,
            "TOP_K_TOO_LARGE",
        ),
        ({"prompt": "x", "n": 64, "max_tokens": 2000}, errors.ResourceExhausted, "ENGINE_MEMORY_FULL"),
    ],
)
async def test_what_cannot_work_is_said(served, fields, kind, reason):
    stub, _ = served
    with pytest.raises(kind) as caught:
        await collect(stub, **fields)
    assert caught.value.reason == reason


async def test_a_client_that_leaves_stops_its_sequences(served):
    stub, _ = served
    call = stub.Generate(
        pb.GenerateRequest(model="tiny", prompt="the", max_tokens=2000, ignore_eos=True, n=2)
    )
    await call.read()
    call.cancel()

    async def idle() -> bool:
        info = await stub.GetEngineInfo(pb.GetEngineInfoRequest())
        return info.models[0].running == 0 and info.models[0].cache_bytes_used == 0

    await until_async(idle)
    info = await stub.GetEngineInfo(pb.GetEngineInfoRequest())
    assert info.models[0].generated_tokens < 4000


async def test_the_engine_says_what_it_does(served):
    stub, _ = served
    assert not (await stub.GetEngineInfo(pb.GetEngineInfoRequest())).models
    await collect(stub, prompt="the fox", max_tokens=5, ignore_eos=True)
    info = await stub.GetEngineInfo(pb.GetEngineInfoRequest())
    (model,) = info.models
    assert (model.model, model.device, model.dtype, model.forward) == ("tiny", "cpu", "float32", "compiled")
    assert model.generated_tokens == 5
    assert model.prefill_tokens > 0
    assert info.queue_limit == 128


async def test_scores_agree_with_generation(served, tiny_model):
    stub, _ = served
    events = await collect(stub, prompt="the quick", max_tokens=6, ignore_eos=True, logprobs=0)
    chosen = [p for e in events if e.WhichOneof("event") == "delta" for p in e.delta.logprobs]
    prompt = events[0].started.prompt_tokens
    score = await stub.Score(pb.ScoreRequest(model="tiny", text="the quick", top=3))
    assert len(score.tokens) == prompt - 1
    assert all(len(t.top) == 3 for t in score.tokens)
    assert b"".join(t.bytes for t in score.tokens) in b"the quick"
    ids = AutoTokenizer.from_pretrained(tiny_model)("the quick").input_ids
    both = await stub.Score(
        pb.ScoreRequest(
            model="tiny", tokens=pb.TokenIds(ids=[*ids, *(p.id for p in chosen)]), skip_tokens=prompt
        )
    )
    assert [t.id for t in both.tokens] == [p.id for p in chosen]
    assert [t.logprob for t in both.tokens] == pytest.approx([p.logprob for p in chosen], abs=1e-4)
    assert both.perplexity == pytest.approx(math.exp(-both.total_logprob / 6))


async def test_a_score_with_nothing_to_score_or_too_much(served):
    stub, _ = served
    for fields, reason in [
        ({"text": "the", "skip_tokens": 50}, "PROMPT_EMPTY"),
        ({"text": ""}, "PROMPT_EMPTY"),
        ({"tokens": pb.TokenIds(ids=[5] * 2048), "top": 64}, "INVALID_REQUEST"),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Score(pb.ScoreRequest(model="tiny", **fields))
        assert from_rpc_error(caught.value).reason == reason


async def test_a_batch_of_missing_lines_is_refused_and_a_real_one_queued(served):
    stub, server = served
    request = pb.GenerateBatchRequest(model="tiny", input="sha256:" + "0" * 64)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GenerateBatch(request)
    assert from_rpc_error(caught.value).reason == "ARTIFACT_NOT_FOUND"
    info = await asyncio.to_thread(server.resources.artifacts.put_bytes, b'{"prompt":"the"}\n')
    first = await stub.GenerateBatch(pb.GenerateBatchRequest(model="tiny", input=info.digest, request_id="r"))
    again = await stub.GenerateBatch(pb.GenerateBatchRequest(model="tiny", input=info.digest, request_id="r"))
    assert first.name == again.name


async def test_streams_beside_each_other_say_what_they_say_alone(served):
    stub, _ = served
    prompts = [f"the quick {n} fox" for n in range(6)]
    fields = {"max_tokens": 30, "ignore_eos": True, "sampling": pb.SamplingConfig(temperature=1, seed=3)}
    alone = [whole(await collect(stub, prompt=p, **fields)).text for p in prompts]
    together = await asyncio.gather(*(collect(stub, prompt=p, **fields) for p in prompts))
    assert [whole(events).text for events in together] == alone
