"""What engines' connectors load from and put into a real server."""

import asyncio

import pytest
import torch

from palimpsest import Client
from palimpsest.errors import DeadlineExceeded, NotFound, PalimpsestError
from palimpsest.integrations.contexts import Match, ServerStore
from palimpsest.kv import KeyValues
from tests.integration.client.proxy import DamProxy

from .test_contexts import CHUNK, made, some_ids  # noqa: F401


@pytest.fixture
async def store(server):
    store = ServerStore(Client(f"127.0.0.1:{server.port}"), "tiny", levels=["lossless"], timeout=10)
    yield store
    await asyncio.to_thread(store.close)


async def test_a_stored_prefix_is_found_and_loaded(store, made, client):  # noqa: F811
    ids = some_ids(300)
    assert await asyncio.to_thread(store.look_up, [5, *ids]) is None
    match = await asyncio.to_thread(store.look_up, ids[: 3 * CHUNK + 9])
    assert match == Match(made.name, 3 * CHUNK, 3)
    pieces = await asyncio.to_thread(lambda: list(store.load(match)))
    whole = (await client.codec.load(made.name, settings={"levels": ["lossless"]})).kv
    joined = KeyValues.join(sorted(pieces, key=lambda kv: kv.start))
    assert joined.tokens == 3 * CHUNK
    assert joined.keys.equal(whole.keys[:, :, : 3 * CHUNK])


async def test_what_is_put_is_found(store, made, client):  # noqa: F811
    ids = some_ids(160, seed=77)
    whole = (await client.codec.load(made.name, settings={"levels": ["lossless"]})).kv[:160]
    assert await asyncio.to_thread(store.look_up, ids) is None
    await asyncio.to_thread(store.put, ids, KeyValues(whole.keys, whole.values))
    match = await asyncio.to_thread(store.look_up, [*ids, 9, 9])
    assert match is not None
    assert match.tokens == 160
    lossy = ServerStore(store._client, "tiny")
    pieces = await asyncio.to_thread(lambda: list(lossy.load(match)))
    back = KeyValues.join(sorted(pieces, key=lambda kv: kv.start))
    error = (back.values - whole.values).square().mean() / whole.values.var()
    assert torch.isfinite(back.keys).all()
    assert float(error) < 0.1


async def test_what_is_not_there_is_said_so(store):
    with pytest.raises(NotFound):
        await asyncio.to_thread(lambda: list(store.load(Match("contexts/nothing", 64, 1))))
    away = ServerStore(Client("127.0.0.1:9"), "tiny", timeout=1)
    with pytest.raises(PalimpsestError):
        await asyncio.to_thread(away.look_up, [1, 2, 3])
    await asyncio.to_thread(away.close)


async def test_a_load_slower_than_the_engine_is_given_up(server, made):  # noqa: F811
    async with DamProxy(f"127.0.0.1:{server.port}", 20_000) as dam:
        far = ServerStore(Client(dam.target), "tiny", levels=["lossless"], prefill_tokens_per_second=200.0)
        with pytest.raises(DeadlineExceeded):
            await asyncio.to_thread(lambda: list(far.load(Match(made.name, 300, 5))))
        assert dam.closed
        await asyncio.to_thread(far.close)
