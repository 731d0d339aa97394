"""Whole contexts in and out, and the calibration profile that is fetched once."""

import threading

import pytest
import torch
from transformers import DynamicCache

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.client import profiles
from palimpsest.client.frames import shape_of
from palimpsest.errors import DataLoss
from palimpsest.kv import KeyValues, decode, to_cache
from palimpsest.kv.raw import raw_frames
from tests.unit.client.scripted import Event, Stored, same
from tests.unit.kv.conftest import make_cache


@pytest.fixture(scope="module")
def stored():
    return Stored()


def whole(stored, level="balanced"):
    """A script that sends everything."""

    async def script(begin, reports):
        for event in stored.opening():
            yield event
        for index in reversed(range(len(stored.parts))):
            for event in stored.sending(index, level):
                yield event
        while len(reports.all("accepted")) < len(stored.parts):
            await reports.next()
        yield stored.end()

    return script


async def test_load_gives_the_whole_cache(twin, server, stored):
    server.script = whole(stored)
    seen = []
    points = [{"tokens": 100, "seconds": 1000.0}]
    context = await twin.call(
        twin.client.codec.load, "contexts/x", settings={"recompute": points}, watch=seen.append
    )
    assert not server.begin.settings.recompute  # nothing here can
    assert same(context.kv, KeyValues.join([decode(each["balanced"]) for each in stored.coded]))
    assert context.token_ids.tolist() == stored.ids.tolist()
    assert context.chunks == tuple(("balanced", len(each["balanced"])) for each in stored.coded)
    assert context.received_bytes == sum(len(each["balanced"]) for each in stored.coded)
    assert context.loss == 0.25
    assert context.seconds > 0
    cache = context.to_cache()
    assert isinstance(cache, DynamicCache)
    assert cache.get_seq_length() == stored.kv.tokens
    assert len(seen) == 5


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in a row"])
async def test_load_recomputes_in_order_beside_the_transfer(twin, server, stored, together):
    async def script(begin, reports):
        for event in stored.opening():
            yield event
        # First: a model that takes no time at all, as here, would not wait for it once that is known.
        for event in stored.sending(2):
            yield event
        await reports.until("accepted")
        if together:
            yield stored.order(1)  # its turn comes after chunk 0's
        yield stored.order(0)
        await reports.until("recomputed", 0)
        if not together:
            yield stored.order(1)
        await reports.until("recomputed", 1)
        yield stored.end()

    calls = []

    def recompute(before, kv, ids):
        calls.append((len(before), kv.tokens if kv else 0, threading.current_thread().name))
        return stored.kv[len(before) : len(before) + len(ids)]

    server.script = script
    points = [{"tokens": 100, "seconds": 1.0}]
    context = await twin.call(
        twin.client.codec.load, "contexts/x", settings={"recompute": points}, recompute=recompute
    )
    assert len(server.begin.settings.recompute) == 1
    assert [call[:2] for call in calls] == ([(0, 0)] if together else [(0, 0), (24, 24)])
    assert {call[2] for call in calls} == {"palimpsest-recompute"}
    assert [level for level, _ in context.chunks] == ["recompute", "recompute", "balanced"]
    assert torch.equal(context.kv.keys[:, :, :48], stored.kv.keys[:, :, :48])
    assert torch.equal(context.kv.values[:, :, :48], stored.kv.values[:, :, :48])


async def test_what_recompute_raises_ends_the_load(twin, server, stored):
    async def script(begin, reports):
        for event in stored.opening():
            yield event
        yield stored.order(0)
        await reports.until("recomputed")

    def recompute(before, kv, ids):
        raise ZeroDivisionError

    server.script = script
    with pytest.raises(ZeroDivisionError):
        await twin.call(twin.client.codec.load, "contexts/x", recompute=recompute)
    await server.over.wait()
    with pytest.raises(DataLoss, match="recompute="):
        await twin.call(twin.client.codec.load, "contexts/x")


async def test_a_profile_is_fetched_once_and_checked_when_read(twin, server, profile):
    stored = Stored(profile=profile)
    server.artifacts[profile.id] = profile.to_bytes()
    server.script = whole(stored)
    wanted = KeyValues.join([decode(each["balanced"], profile=profile) for each in stored.coded])
    for _ in range(2):
        context = await twin.call(twin.client.codec.load, "contexts/x")
        assert same(context.kv, wanted)
    assert server.reads == 1
    kept = profiles.folder() / profile.id.removeprefix("sha256:")
    assert kept.read_bytes() == profile.to_bytes()
    assert [path.name for path in profiles.folder().iterdir()] == [kept.name]

    profiles._held.clear()
    await twin.call(twin.client.codec.load, "contexts/x")
    assert server.reads == 1  # from disk

    profiles._held.clear()
    kept.write_bytes(b"rotten")
    await twin.call(twin.client.codec.load, "contexts/x")
    assert server.reads == 2
    assert kept.read_bytes() == profile.to_bytes()


async def test_a_profile_of_the_callers_is_used_as_it_is(twin, server, profile):
    server.script = whole(Stored(profile=profile))
    await twin.call(twin.client.codec.load, "contexts/x", profile=profile)
    assert server.reads == 0


async def test_a_profile_that_cannot_be_fetched_ends_the_load(twin, server, profile):
    stored = Stored(profile=profile)
    server.artifacts[profile.id] = profile.to_bytes()[:-1]
    server.script = whole(stored)
    with pytest.raises(DataLoss, match="digest"):
        await twin.call(twin.client.codec.load, "contexts/x")


@pytest.mark.parametrize("form", ["key values", "cache"])
async def test_put_sends_chunk_by_chunk_keys_then_values(twin, server, form):
    kv = make_cache(3, 50)
    context = await twin.call(
        twin.client.codec.put,
        model="m",
        tokens=range(50),
        kv=kv if form == "key values" else to_cache(kv),
        context_id="mine",
        coding={"chunk_tokens": 20},
        labels={"a": "b"},
    )
    assert context.name == "contexts/put"
    spec, *frames = server.put
    assert spec.spec.shape == pb.CacheShape(
        layers=4, kv_heads=2, key_dim=16, value_dim=16, dtype="bfloat16", tokens=50
    )
    assert list(spec.spec.tokens.ids) == list(range(50))
    assert (spec.spec.context_id, dict(spec.spec.labels)) == ("mine", {"a": "b"})
    wanted = b"".join(frame for part in kv.chunks(20) for frame in raw_frames(part))
    assert b"".join(frame.data for frame in frames) == wanted


async def test_encode_and_decode_put_frames_together(twin, server, stored):
    server.coded = stored.coded[0]
    assert await twin.call(twin.client.codec.encode, stored.parts[0], model="m") == stored.coded[0]
    assert server.put[0].spec.model == "m"
    kv = stored.parts[1]
    server.put_shape, server.put_frames = shape_of(kv), tuple(raw_frames(kv, 999))
    assert same(await twin.call(twin.client.codec.decode, stored.coded[1]["balanced"]), kv)
    assert b"".join(part.data for part in server.put) == stored.coded[1]["balanced"]


async def test_a_level_that_is_cut_short_is_noticed(twin, server, stored, monkeypatch):
    server.coded = {"balanced": b"x" * 900}

    async def short(requests, context):
        [_ async for _ in requests]
        yield pb.EncodeCacheResponse(level="balanced", data=b"x", size_bytes=2)

    monkeypatch.setattr(server, "EncodeCache", short)
    await server.stop()
    target = await server.start()
    client = type(twin.client)(target)
    with pytest.raises(DataLoss, match="incomplete"):
        await twin.call(client.codec.encode, stored.parts[0])
    await twin.call(client.close)


def test_events_of_the_contract_are_all_known():
    kinds = {field.name for field in Event.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert kinds == {"opened", "tokens", "chunk", "data", "recompute", "abandoned", "ended", "more_chunks"}
