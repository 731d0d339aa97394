"""What a generation tells of the loss of the context it continued, chunk by chunk."""

import pytest

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.engine import ChunkOrigin, PrefixReady
from services.decoding.contexts.load import ContextLoad

LOADED, RECOMPUTED, CACHED = ChunkOrigin.LOADED, ChunkOrigin.RECOMPUTED, ChunkOrigin.CACHED


def stored(losses: list[float]) -> codec_pb2.Context:
    """Four chunks of ten tokens at one level."""
    context = codec_pb2.Context(token_count=10 * len(losses))
    context.levels.add(level="balanced", loss=0.5)
    for at, loss in enumerate(losses):
        chunk = context.chunks.add(start=10 * at, tokens=10)
        chunk.encodings.add(level="balanced", loss=loss)
    return context


async def told(
    origins: list[ChunkOrigin], exact: int, earlier: dict[int, float] | None = None
) -> tuple[float, dict[int, float]]:
    load = ContextLoad(None, dict(earlier or {}), 0.0)
    load._stored = stored([0.1, 0.2, 0.3, 0.4])
    load._loaded = {at: ("balanced", 100) for at, origin in enumerate(origins) if origin is LOADED}
    response = load.response(PrefixReady(tuple(origins), exact), None)  # type: ignore[arg-type]
    return response.context.loss, load.losses


async def test_loaded_chunks_count_with_their_own_losses():
    loss, _ = await told([RECOMPUTED, LOADED, LOADED, LOADED], 10)
    assert loss == pytest.approx((0.2 + 0.3 + 0.4) / 4)


async def test_a_chunk_recomputed_after_lossy_ones_has_lost_as_much_as_they():
    loss, losses = await told([LOADED, LOADED, RECOMPUTED, RECOMPUTED], 0)
    assert loss == pytest.approx((0.1 + 0.2 + 0.2 + 0.2) / 4)
    held, _ = await told([CACHED] * 4, 0, losses)
    assert held == pytest.approx(loss), "and still has, once it is held"


async def test_what_is_recomputed_from_exact_chunks_is_exact():
    loss, _ = await told([RECOMPUTED] * 4, 40)
    assert loss == 0


async def test_a_chunk_loaded_long_ago_counts_with_the_most_it_may_have_lost():
    loss, _ = await told([CACHED, RECOMPUTED, LOADED, LOADED], 0)
    assert loss == pytest.approx((0.1 + 0.1 + 0.3 + 0.4) / 4)
