"""Loads from a real server over sockets that let little or nothing through: the receiver goes on from the text."""

import asyncio

import numpy as np
import pytest
import torch

from palimpsest import AsyncClient
from palimpsest.client.loading import ChunkLoaded, Ended, Opened, RecomputeChunk
from palimpsest.kv import KeyValues, from_cache
from tests.benchmarks.links import Link
from tests.integration.client.proxy import DamProxy

TOKENS, CHUNK = 320, 64


@pytest.fixture(scope="module")
def ids() -> list[int]:
    return np.random.default_rng(5).integers(3, 300, TOKENS).tolist()


@pytest.fixture(scope="module")
def exact(tiny_model, ids) -> KeyValues:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        return from_cache(model(torch.tensor([ids]), use_cache=True).past_key_values)


@pytest.fixture(scope="module")
def name(create, ids) -> str:
    """Five chunks of some eleven thousand bytes each."""
    coding = {"chunk_tokens": CHUNK, "levels": ["lossless"]}
    return create(tokens={"ids": ids}, coding=coding, context_id="far").name


def settings(seconds: float) -> dict[str, object]:
    return {"recompute": [{"tokens": TOKENS, "seconds": seconds}]}


async def whole(target: str, name: str, exact: KeyValues, seconds: float):
    """Load it, as far as it comes; returns the load and its events."""
    events = []

    def recompute(before, _kv, chunk):
        return exact[len(before) : len(before) + len(chunk)]

    async with AsyncClient(target) as client, asyncio.timeout(120):
        loaded = await client.codec.load(
            name, settings=settings(seconds), recompute=recompute, watch=events.append
        )
    torch.testing.assert_close(loaded.kv.keys, exact.keys, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loaded.kv.values, exact.values, atol=1e-4, rtol=1e-4)
    return loaded, events


@pytest.mark.parametrize("passes", [4_000, 12_000, 30_000], ids=["ids", "some", "more"])
async def test_a_link_that_dies_is_finished_from_the_text(server, name, exact, passes):
    async with DamProxy(f"127.0.0.1:{server.port}", passes) as dam:
        loaded, events = await whole(dam.target, name, exact, 4.0)
        assert dam.closed
    assert isinstance(events[0], Opened)
    assert isinstance(events[-1], Ended)
    taken = [event.index for event in events if isinstance(event, RecomputeChunk)]
    arrived = [event.index for event in events if isinstance(event, ChunkLoaded)]
    assert sorted(taken + arrived) == list(range(5))
    assert 0 in taken
    assert [level for level, _ in loaded.chunks].count("recompute") == len(taken)


async def test_on_a_slow_link_the_text_is_recomputed_from_the_front(server, name, exact):
    # All of it would take half a minute to arrive.
    with Link(f"127.0.0.1:{server.port}", 2_000, kind="relay") as link:
        _, events = await whole(link.target, name, exact, 0.5)
    orders = [event.index for event in events if isinstance(event, RecomputeChunk)]
    assert orders == list(range(len(orders)))
    assert len(orders) >= 4
