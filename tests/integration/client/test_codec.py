"""Contexts through both clients, on the real stack: stored, found, loaded, put, forgotten."""

import uuid

import pytest
import torch
from transformers import AutoModelForCausalLM

from palimpsest import Client
from palimpsest.client.loading import ChunkLoaded, Ended, Opened, RecomputeChunk
from palimpsest.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from palimpsest.kv import KeyValues, from_cache, to_cache

MODEL = "codec-tiny"
IDS = [(7 * at * at + 3) % 300 for at in range(200)]
CODING = {"chunk_tokens": 64, "levels": ["lossless", "near-lossless", "smallest"]}


@pytest.fixture(scope="module")
def registered(stack, tiny_model):
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id=MODEL, source=str(tiny_model)).result(timeout=60)
    return MODEL


@pytest.fixture(scope="module")
def language_model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


@pytest.fixture(scope="module")
def exact(language_model):
    """What transformers computes."""
    with torch.no_grad():
        return from_cache(language_model(torch.tensor([IDS]), use_cache=True).past_key_values)


def distance(one, other):
    """Relative; the stack computes in bfloat16 where the processor has it."""
    return float((one.keys.float() - other.keys.float()).norm() / other.keys.float().norm())


@pytest.fixture
async def context(twin, registered):
    name = f"client-{uuid.uuid4().hex[:8]}"
    job = await twin.call(
        twin.client.codec.create_context, model=registered, tokens=IDS, context_id=name, coding=CODING
    )
    return await twin.call(job.result, timeout=120)


@pytest.fixture
async def lossy(twin, context):
    """The same cache, put: the job measures that this model loses too much at every lossy level, and keeps none."""
    source = await twin.call(twin.client.codec.load, context.name, settings={"levels": ["lossless"]})
    name = f"client-{uuid.uuid4().hex[:8]}"
    return await twin.call(
        twin.client.codec.put, model=MODEL, tokens=IDS, kv=source.kv, context_id=name, coding=CODING
    )


async def test_create_list_load_delete(twin, context, exact):
    assert context.name.startswith("contexts/client-")
    listed = await twin.call(twin.client.codec.list_contexts, page_size=1000, model=MODEL)
    assert context.name in {each.name for each in listed.contexts}
    loaded = await twin.call(twin.client.codec.load, context.name, settings={"levels": ["lossless"]})
    assert distance(loaded.kv, exact) < 0.03
    assert loaded.token_ids.tolist() == IDS
    assert [level for level, _ in loaded.chunks] == ["lossless"] * 4
    await twin.call(twin.client.codec.delete_context, name=context.name)
    with pytest.raises(NotFound):
        await twin.call(twin.client.codec.get_context, name=context.name)
    with pytest.raises(NotFound):
        await twin.call(twin.client.codec.load, context.name)


async def test_a_load_is_what_encoding_and_decoding_give(twin, lossy):
    """The same cache, through the store and past it."""
    source = await twin.call(twin.client.codec.load, lossy.name, settings={"levels": ["lossless"]})
    loaded = await twin.call(twin.client.codec.load, lossy.name, settings={"levels": ["smallest"]})
    assert loaded.loss > 0
    for at, part in enumerate(source.kv.chunks(64)):
        coded = await twin.call(twin.client.codec.encode, part, model=MODEL, coding={"levels": ["smallest"]})
        decoded = await twin.call(twin.client.codec.decode, coded["smallest"])
        mine = loaded.kv[64 * at : 64 * at + part.tokens]
        assert torch.equal(decoded.keys, mine.keys)
        assert torch.equal(decoded.values, mine.values)
        assert decoded.start == 64 * at


async def test_adaptive_loads_keep_to_their_settings(twin, lossy):
    fine = await twin.call(twin.client.codec.load, lossy.name, settings={"loss_budget": 1e-9})
    assert {level for level, _ in fine.chunks} == {"lossless"}
    hasty = {"mode": "quality", "deadline_seconds": 0.05, "bandwidth": 1000.0}
    coarse = await twin.call(twin.client.codec.load, lossy.name, settings=hasty)
    assert coarse.chunks[-1][0] == "smallest"


async def test_receiving_a_part_that_goes_on_where_another_ended(twin, context):
    events = [
        event
        async for event in twin.each(
            twin.client.codec.receive(
                context.name, chunks=3, held_chunks=1, settings={"levels": ["smallest"]}
            )
        )
    ]
    assert isinstance(events[0], Opened)
    assert events[0].token_ids.tolist() == IDS[: 3 * 64]
    assert [event.index for event in events if isinstance(event, ChunkLoaded)] == [2, 1]
    assert isinstance(events[-1], Ended)


async def test_a_receiver_that_recomputes_gets_exact_chunks_in_front(twin, context, language_model, exact):
    def recompute(before, kv, ids):
        past = to_cache(KeyValues(kv.keys.float(), kv.values.float())) if kv is not None else None
        with torch.no_grad():
            output = language_model(torch.tensor([ids.tolist()]), past_key_values=past, use_cache=True)
        made = from_cache(output.past_key_values)
        return KeyValues(made.keys[:, :, len(before) :], made.values[:, :, len(before) :])

    seen = []
    slow = {"bandwidth": 2000.0, "recompute": [{"tokens": 200, "seconds": 0.2}], "levels": ["smallest"]}
    loaded = await twin.call(
        twin.client.codec.load, context.name, settings=slow, recompute=recompute, watch=seen.append
    )
    assert loaded.chunks[0][0] == "recompute"
    assert any(isinstance(event, RecomputeChunk) for event in seen)
    assert distance(loaded.kv[:64], exact[:64]) < 0.005


async def test_put_round_trip_look_up_and_estimate(twin, registered, exact):
    ids = [*IDS, int(uuid.uuid4().int % 300)]
    kv = KeyValues(
        torch.cat([exact.keys, exact.keys[:, :, -1:]], 2),
        torch.cat([exact.values, exact.values[:, :, -1:]], 2),
    )
    name = f"client-put-{uuid.uuid4().hex[:8]}"
    send = {"model": registered, "tokens": ids, "context_id": name, "coding": CODING}
    put = await twin.call(twin.client.codec.put, kv=to_cache(kv), **send)
    assert put.name == f"contexts/{name}"
    loaded = await twin.call(twin.client.codec.load, put.name, settings={"levels": ["lossless"]})
    assert torch.equal(loaded.kv.keys, kv.keys)
    assert torch.equal(loaded.kv.values, kv.values)
    again = await twin.call(twin.client.codec.put, kv=kv, **send)
    assert again.name == put.name
    with pytest.raises(AlreadyExists):
        await twin.call(twin.client.codec.put, kv=kv[:200], **{**send, "tokens": IDS})

    found = await twin.call(twin.client.codec.look_up_context, model=registered, tokens=[*ids, 5, 6])
    assert (found.matched_tokens, found.token_count) == (201, 203)

    estimate = await twin.call(
        twin.client.codec.estimate, name=put.name, settings={"bandwidth": 1e6, "deadline_seconds": 5.0}
    )
    assert [way.name for way in estimate.ways] == ["adaptive", "lossless", "near-lossless", "smallest"]
    await twin.call(twin.client.codec.delete_context, name=put.name)


async def test_refusals(twin, context, exact):
    with pytest.raises(FailedPrecondition):
        await twin.call(twin.client.codec.load, context.name, model_fingerprint="another")
    with pytest.raises(InvalidArgument):
        await twin.call(twin.client.codec.load, context.name, settings={"levels": ["perfect"]})
    wrong = KeyValues(exact.keys[:1], exact.values[:1])
    with pytest.raises(FailedPrecondition):
        await twin.call(twin.client.codec.put, model=MODEL, tokens=IDS, kv=wrong)
    with pytest.raises(TypeError, match=r"settings\.dead_line"):
        await twin.call(twin.client.codec.load, context.name, settings={"dead_line": 1})
