"""Contexts over real calls: made, found, listed, loaded, put, forgotten."""

import asyncio
import hashlib

import numpy as np
import pytest
import torch

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.client.loading import Abandoned, ChunkLoaded, Ended, Opened, RecomputeChunk
from palimpsest.errors import (
    AlreadyExists,
    Cancelled,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
)
from palimpsest.jobs import JobContext
from palimpsest.kv import KeyValues, from_cache
from palimpsest.progress import NullProgress
from services.codec.tasks import calibrate

CHUNK = 64


def some_ids(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, 300, count).tolist()


@pytest.fixture(scope="module")
def made(create) -> pb.Context:
    """A context of 300 tokens in five chunks, the last of 44, also lossless."""
    coding = {"chunk_tokens": CHUNK, "levels": ["lossless", "near-lossless", "balanced", "smallest"]}
    return create(tokens={"ids": some_ids(300)}, coding=coding, context_id="made", labels={"for": "tests"})


@pytest.fixture(scope="module")
def exact(tiny_model) -> KeyValues:
    """What transformers itself computes for the same tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        return from_cache(model(torch.tensor([some_ids(300)]), use_cache=True).past_key_values)


async def test_a_context_is_what_the_model_computes(client, made, exact):
    loaded = await client.codec.load(made.name, settings={"levels": ["lossless"]})
    torch.testing.assert_close(loaded.kv.keys, exact.keys, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loaded.kv.values, exact.values, atol=1e-4, rtol=1e-4)
    assert loaded.token_ids.tolist() == some_ids(300)
    assert [level for level, _ in loaded.chunks] == ["lossless"] * 5
    assert loaded.loss == 0


async def test_the_record_says_how_it_is_stored(client, made):
    found = await client.codec.get_context(name="contexts/made")
    assert [(c.start, c.tokens) for c in found.chunks] == [(0, 64), (64, 64), (128, 64), (192, 64), (256, 44)]
    assert (found.token_count, found.codec, found.labels["for"]) == (300, "generic", "tests")
    assert found.cache_bytes == 300 * 2 * 2 * 32 * 4
    apart = {e.artifact: e.size_bytes for c in found.chunks for e in c.encodings}
    assert found.stored_bytes == sum(apart.values()), "what several levels share is stored once"
    for level, at in zip(found.levels, range(4), strict=True):
        told = [(c.tokens, c.encodings[at]) for c in found.chunks]
        assert all(each.HasField("loss") and each.stored_level for _, each in told)
        assert level.loss == pytest.approx(sum(tokens * each.loss for tokens, each in told) / 300)
    assert found.levels[0].loss == 0
    ids = np.asarray(some_ids(300), dtype="<u4")
    assert found.prefix_digest == "sha256:" + hashlib.sha256(ids.tobytes()).hexdigest()
    assert found.chunks[1].prefix_digest == "sha256:" + hashlib.sha256(ids[:128].tobytes()).hexdigest()
    assert [level.level for level in found.levels] == ["lossless", "near-lossless", "balanced", "smallest"]
    assert not made.chunks, "a job's result stays small"


async def test_levels_trade_size_for_loss(client, made, exact):
    errors, sizes = [], []
    for level in ("near-lossless", "balanced", "smallest"):
        loaded = await client.codec.load(made.name, settings={"levels": [level]})
        errors.append(float((loaded.kv.keys - exact.keys).norm()))
        sizes.append(loaded.received_bytes)
    assert errors == sorted(errors)
    assert sizes == sorted(sizes, reverse=True)


async def test_the_same_content_is_stored_once_and_another_is_refused(create, made):
    coding = {"chunk_tokens": CHUNK, "levels": ["lossless", "near-lossless", "balanced", "smallest"]}
    again = create(tokens={"ids": some_ids(300)}, coding=coding, context_id="made")
    assert again.create_time == made.create_time
    with pytest.raises(AlreadyExists) as refused:
        create(tokens={"ids": some_ids(301)}, coding=coding, context_id="made")
    assert refused.value.reason == Reason.CONTEXT_EXISTS


async def test_look_up_finds_the_longest_prefix(client, create, made):
    create(tokens={"ids": some_ids(300)[:200]}, coding={"chunk_tokens": 50}, context_id="shorter")
    found = await client.codec.look_up_context(model="tiny", tokens=[*some_ids(300)[:210], 5, 6])
    assert (found.name, found.chunks, found.matched_tokens) == ("contexts/shorter", 4, 200)
    found = await client.codec.look_up_context(model="tiny", tokens=some_ids(300))
    assert (found.name, found.chunks, found.matched_tokens) == ("contexts/made", 5, 300)
    found = await client.codec.look_up_context(model="tiny", tokens=[9, *some_ids(300)])
    assert (found.name, found.matched_tokens, found.token_count) == ("", 0, 301)
    await client.codec.delete_context(name="contexts/shorter")
    found = await client.codec.look_up_context(model="tiny", tokens=some_ids(300)[:210])
    assert (found.name, found.chunks) == ("contexts/made", 3)


async def test_deleting_frees_what_nobody_else_needs(client, create, resources):
    create(tokens={"ids": some_ids(80, 7)}, context_id="goes")
    create(tokens={"ids": some_ids(80, 7)}, coding={"levels": ["balanced"]}, context_id="stays")
    goes, stays = [await client.codec.get_context(name=f"contexts/{n}") for n in ("goes", "stays")]
    shared = stays.chunks[0].encodings[0].artifact
    await client.codec.delete_context(name=goes.name)
    assert [len(resources.artifacts.references.owners(e.artifact)) for e in goes.chunks[0].encodings] == [
        int(e.artifact == shared) for e in goes.chunks[0].encodings
    ]
    with pytest.raises(NotFound) as gone:
        await client.codec.get_context(name=goes.name)
    assert gone.value.reason == Reason.CONTEXT_NOT_FOUND
    await client.codec.delete_context(name=stays.name)


async def test_lists_come_in_pages(client, create, made):
    for n in range(3):
        create(tokens={"ids": some_ids(20, 50 + n)}, context_id=f"page-{n}")
    names, token = [], ""
    while True:
        page = await client.codec.list_contexts(page_size=2, page_token=token)
        assert len(page.contexts) <= 2
        names += [c.name for c in page.contexts]
        assert not any(c.chunks for c in page.contexts)
        token = page.next_page_token
        if not token:
            break
    assert names[:1] == ["contexts/made"]
    assert {f"contexts/page-{n}" for n in range(3)} <= set(names)
    assert len(names) == len(set(names))
    assert not (await client.codec.list_contexts(model="other")).contexts


async def test_a_receiver_that_recomputes_gets_orders_from_the_front(client, made, exact):
    events = []
    settings = {"recompute": [{"tokens": 300, "seconds": 0.05}], "bandwidth": 2e5, "loss_budget": 1.0}
    async with client.codec.receive(made.name, settings=settings) as receiving:
        async for event in receiving:
            events.append(event)
            if isinstance(event, RecomputeChunk):
                receiving.recomputed(event.index, 0.01)
    orders = [e.index for e in events if isinstance(e, RecomputeChunk)]
    arrived = [e.index for e in events if isinstance(e, ChunkLoaded)]
    assert isinstance(events[0], Opened)
    assert isinstance(events[-1], Ended)
    assert orders == list(range(len(orders)))
    assert arrived == sorted(arrived, reverse=True)
    assert sorted(orders + arrived) == list(range(5))
    assert events[-1].recomputed_chunks == len(orders) > 0
    assert all(
        e.ids.tolist() == some_ids(300)[64 * e.index : 64 * e.index + 64]
        for e in events
        if isinstance(e, RecomputeChunk)
    )


async def test_what_is_held_is_not_sent(client, made):
    async with client.codec.receive(
        made.name, settings={"levels": ["balanced"]}, held_chunks=2, chunks=4
    ) as receiving:
        events = [event async for event in receiving]
    assert sorted(e.index for e in events if isinstance(e, ChunkLoaded)) == [2, 3]
    assert len(events[0].token_ids) == 4 * CHUNK
    with pytest.raises(OutOfRange):
        await client.codec.load(made.name, chunks=6)


def damage(resources, context: pb.Context, chunk: int, levels: list[str]) -> None:
    """Flip a byte of stored chunks, as a rotten disk would."""
    from palimpsest.artifacts.layout import blob_name

    # Levels may share what is stored.
    for artifact in {e.artifact for e in context.chunks[chunk].encodings if e.level in levels}:
        path = resources.artifacts._objects.root / blob_name(artifact)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)


async def test_a_rotten_chunk_comes_at_another_level(client, exact, resources):
    kv = exact[:150]
    put = await client.codec.put(
        model="tiny", tokens=some_ids(300)[:150], kv=kv, coding={"chunk_tokens": 50}, context_id="rotten"
    )
    name = put.name
    stored = await client.codec.get_context(name=name)
    damage(resources, stored, 1, ["smallest"])
    events = []
    loaded = await client.codec.load(name, settings={"loss_budget": 9.0}, watch=events.append)
    assert [e.index for e in events if isinstance(e, Abandoned)] == [1]
    assert loaded.chunks[0][0] == "smallest"
    assert loaded.chunks[1][0] != "smallest"


async def test_a_chunk_rotten_at_every_level_is_recomputed_or_refused(client, create, resources):
    name = create(tokens={"ids": some_ids(150, 4)}, coding={"chunk_tokens": 50}, context_id="lost").name
    stored = await client.codec.get_context(name=name)
    damage(resources, stored, 1, [e.level for e in stored.chunks[1].encodings])
    with pytest.raises(DataLoss) as lost:
        await client.codec.load(name)
    assert lost.value.metadata["chunk"] == "1"
    orders = []

    def recompute(ids, before, chunk):
        orders.append((len(ids), len(chunk)))
        width = (2, 2, len(chunk), 16)
        return KeyValues(torch.zeros(width), torch.zeros(width), len(ids))

    # So slow a receiver that nothing is recomputed but what has to be.
    settings = {"recompute": [{"tokens": 150, "seconds": 3000}], "loss_budget": 9.0}
    loaded = await client.codec.load(name, settings=settings, recompute=recompute)
    assert (50, 50) in orders
    assert loaded.chunks[1][0] == "recompute"


async def test_put_and_load_round_trip(client, exact):
    ids = some_ids(300)
    coding = {"codec": "generic", "levels": ["lossless"], "chunk_tokens": 100}
    put = await client.codec.put(model="tiny", tokens=ids, kv=exact, context_id="mine", coding=coding)
    back = await client.codec.load(put.name)
    assert back.kv.keys.equal(exact.keys)
    assert back.kv.values.equal(exact.values)
    again = await client.codec.put(model="tiny", tokens=ids, kv=exact, context_id="mine", coding=coding)
    assert again.create_time == put.create_time


def frames(spec, *data):
    async def parts():
        yield pb.PutContextRequest(spec=spec)
        for part in data:
            yield pb.PutContextRequest(data=part)

    return parts()


SHAPE = {"layers": 2, "kv_heads": 2, "key_dim": 16, "value_dim": 16, "dtype": "float32", "tokens": 4}
WHOLE = bytes(4 * 2 * 2 * 32 * 4)


@pytest.mark.parametrize(
    ("shape", "ids", "data", "error", "reason"),
    [
        ({}, [3, 4, 5, 6], WHOLE[:-1], InvalidArgument, Reason.KV_SHAPE),
        ({}, [3, 4, 5, 6], WHOLE + b"x", InvalidArgument, Reason.KV_SHAPE),
        ({}, [3, 4, 5], WHOLE, InvalidArgument, Reason.KV_SHAPE),
        ({"start": 1}, [3, 4, 5, 6], WHOLE, InvalidArgument, Reason.KV_SHAPE),
        ({"tokens": 0}, [3, 4, 5, 6], b"", InvalidArgument, Reason.INVALID_REQUEST),
        ({"dtype": "int8"}, [3, 4, 5, 6], WHOLE, InvalidArgument, Reason.INVALID_REQUEST),
        ({"kv_heads": 4}, [3, 4, 5, 6], WHOLE * 2, FailedPrecondition, Reason.KV_IDENTITY_MISMATCH),
        ({"layers": 3}, [3, 4, 5, 6], WHOLE, FailedPrecondition, Reason.KV_IDENTITY_MISMATCH),
        ({}, [3, 4, 5, 999], WHOLE, InvalidArgument, Reason.TOKEN_ID_OUT_OF_RANGE),
        ({}, [3, 4, 5, 6], b"\x00\x00\x80\x7f" + WHOLE[4:], InvalidArgument, Reason.KV_NOT_FINITE),
        ({}, [3, 4, 5, 6], b"\x00\x00\xc0\x7f" + WHOLE[4:], InvalidArgument, Reason.KV_NOT_FINITE),
    ],
)
async def test_what_cannot_be_put(client, shape, ids, data, error, reason):
    spec = {"model": "tiny", "tokens": {"ids": ids}, "shape": {**SHAPE, **shape}, "context_id": "never"}
    with pytest.raises(error) as refused:
        await client.codec.put_context(frames(pb.PutContextRequest.Spec(**spec), data))
    assert refused.value.reason == reason
    with pytest.raises(NotFound):
        await client.codec.get_context(name="contexts/never")


async def test_infinities_are_carried_losslessly(client):
    data = b"\x00\x00\x80\x7f" + WHOLE[4:]
    spec = pb.PutContextRequest.Spec(
        model="tiny",
        tokens={"ids": [3, 4, 5, 6]},
        shape=SHAPE,
        context_id="infinite",
        coding={"codec": "generic", "levels": ["lossless"]},
    )
    put = await client.codec.put_context(frames(spec, data))
    back = await client.codec.load(put.name)
    assert torch.isinf(back.kv.keys[0, 0, 0, 0])


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"levels": ["fine"]}, InvalidArgument, Reason.KV_LEVEL_UNKNOWN),
        ({"mode": "quality"}, InvalidArgument, Reason.KV_PLAN_INVALID),
        ({"deadline_seconds": -1.0}, InvalidArgument, Reason.INVALID_REQUEST),
        (
            {"recompute": [{"tokens": 20, "seconds": 1}, {"tokens": 10, "seconds": 2}]},
            InvalidArgument,
            Reason.KV_PLAN_INVALID,
        ),
    ],
)
async def test_loads_that_cannot_be_planned(client, made, settings, error, reason):
    async with client.codec.receive(made.name, settings=settings) as receiving:
        with pytest.raises(error) as refused:
            await anext(receiving)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"accepted": {"chunk": -1}}, "accepted.chunk"),
        ({"receipt": {"received_bytes": 1, "busy_seconds": float("nan")}}, "receipt.busy_seconds"),
        ({"accepted": {"chunk": 77}}, "accepted.chunk"),
        ({"recomputed": {"chunk": 0, "seconds": 1.0}}, "recomputed.chunk"),
        ({"begin": {"name": "contexts/made"}}, "begin"),
        ({}, "part"),
    ],
)
async def test_a_malformed_report_ends_the_load_at_once_and_is_named(client, made, wrong, field):
    async def reports():
        yield pb.LoadContextRequest(begin={"name": made.name})
        yield pb.LoadContextRequest(**wrong)
        await asyncio.get_running_loop().create_future()  # the receiver stays

    async def load():
        async with asyncio.timeout(20), client.codec.load_context(reports()) as stream:
            return [event async for event in stream]

    with pytest.raises(InvalidArgument) as refused:
        await load()
    assert [violation.field for violation in refused.value.violations] == [field]


async def test_another_models_context_is_refused(client, made):
    with pytest.raises(FailedPrecondition) as refused:
        await client.codec.load(made.name, model_fingerprint="sha256:" + "0" * 64)
    assert refused.value.reason == Reason.KV_IDENTITY_MISMATCH
    with pytest.raises(NotFound):
        await client.codec.load("contexts/none-such")


async def test_estimates_tell_the_ways_apart(client, made):
    settings = {
        "bandwidth": 20_000,
        "recompute": [{"tokens": 300, "seconds": 2}],
        "deadline_seconds": 1.5,
        "decode_tokens_per_second": 1e6,
    }
    found = await client.codec.estimate(name=made.name, settings=settings)
    ways = {way.name: way for way in found.ways}
    assert [*ways] == ["adaptive", "lossless", "near-lossless", "balanced", "smallest", "recompute"]
    assert ways["recompute"].finish_seconds == pytest.approx(2)
    assert ways["recompute"].loss == ways["recompute"].bytes == 0
    assert ways["adaptive"].in_time
    assert not ways["lossless"].in_time
    assert sorted(d.chunk for d in found.decisions) == list(range(5))
    with pytest.raises(InvalidArgument):
        await client.codec.estimate(name=made.name, settings={"levels": ["balanced"]})


async def test_encode_and_decode_keep_nothing(client, exact):
    coded = await client.codec.encode(
        exact, model="tiny", coding={"codec": "generic", "levels": ["lossless", "smallest"]}
    )
    assert [*coded] == ["lossless", "smallest"]
    back = await client.codec.decode(coded["lossless"])
    assert back.keys.equal(exact.keys)
    data = bytearray(coded["smallest"])
    data[len(data) // 2] ^= 8
    with pytest.raises(DataLoss) as damaged:
        await client.codec.decode(bytes(data))
    assert "offset" in damaged.value.metadata
    with pytest.raises(DataLoss):
        await client.codec.decode(coded["smallest"][:-5])
    with pytest.raises(InvalidArgument):
        await client.codec.decode(b"this is no chunk, whatever else it may be")
    assert not [c for c in (await client.codec.list_contexts()).contexts if c.token_count == 0]


class Stopping(NullProgress):
    """Cancels once so many tokens are done."""

    def __init__(self, after: int, resume=None) -> None:
        super().__init__(resume)
        self.after = after

    def step(self, done: int, total: int, stage: str = "") -> None:
        if done >= self.after:
            raise Cancelled(Reason.JOB_CANCELLED, "enough")


async def test_a_cancelled_job_leaves_nothing_and_can_be_run_again(client, create):
    fields = {"tokens": {"ids": some_ids(400, 9)}, "coding": {"chunk_tokens": 50}, "context_id": "stopped"}
    with pytest.raises(Cancelled):
        create(Stopping(150), **fields)
    with pytest.raises(NotFound):
        await client.codec.get_context(name="contexts/stopped")
    assert create(**fields).token_count == 400


async def test_a_later_attempt_goes_on_where_the_first_was(client, create, monkeypatch):
    monkeypatch.setattr("services.codec.tasks.SECONDS_PER_CHECKPOINT", 0.0)
    fields = {"tokens": {"ids": some_ids(400, 10)}, "coding": {"chunk_tokens": 50}}
    first = Stopping(200)
    with pytest.raises(Cancelled):
        create(first, context_id="resumed", **fields)
    resumed = create(NullProgress(first.resume()), context_id="resumed", **fields)
    plain = create(context_id="plain", **fields)
    chunks = [(await client.codec.get_context(name=c.name)).chunks for c in (resumed, plain)]
    assert chunks[0] == chunks[1]


async def test_eight_loads_at_once(client, made):
    loads = await asyncio.gather(
        *(client.codec.load(made.name, settings={"levels": ["balanced"]}) for _ in range(8))
    )
    assert all(load.kv.keys.equal(loads[0].kv.keys) for load in loads)


async def test_new_contexts_use_the_calibration(client, create, profile):
    found = await client.codec.get_profile(model="tiny")
    assert found == profile
    names = ["near-lossless", "high", "balanced", "compact", "smallest"]
    assert [level.level for level in found.levels] == names
    losses = [level.loss for level in found.levels]
    assert losses == sorted(losses)
    text = "the quick brown fox jumps over the lazy dog " * 20
    made = create(text=text, coding={"levels": ["balanced"]}, context_id="calibrated")
    assert (made.codec, made.profile) == ("transform", profile.artifact)
    loaded = await client.codec.load(made.name)
    assert loaded.loss == pytest.approx(made.levels[0].loss)
    classic = create(text=text, coding={"codec": "classic", "levels": ["balanced"]}, context_id="classic")
    assert (await client.codec.load(classic.name)).chunks[0][0] == "balanced"


async def test_calibrations_that_cannot_be(client, resources):
    with pytest.raises(NotFound):
        await client.codec.get_profile(model="nobody")
    with pytest.raises(NotFound):
        await client.codec.calibrate(model="tiny", texts="sha256:" + "0" * 64)
    digest = resources.artifacts.put_bytes(b"too short a text").digest
    request = pb.CalibrateRequest(model="tiny", texts=digest, skip_cache=True)
    with pytest.raises(InvalidArgument) as short:
        calibrate(request, JobContext("job", "me", 1, NullProgress(), resources))
    assert short.value.reason == Reason.KV_CALIBRATION
