"""Load settings at the edges of what the contract allows: a plan or a refusal, and only numbers in it."""

import math
import random

import pytest

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import InvalidArgument, OutOfRange
from palimpsest.rpc.validation import validate
from services.codec.plans import estimate
from tests.fuzz.messages import Drawer, World

LEVELS = {"lossless": (900_000, 0.0), "balanced": (90_000, 0.01), "smallest": (30_000, 0.1)}
SPEEDS = {"balanced": 9_000.0}
POINTS = [pb.RecomputePoint(tokens=100, seconds=1.0)]


def context(chunks: int) -> pb.Context:
    made = pb.Context(name="contexts/a", chunk_tokens=64, token_count=64 * chunks)
    for number in range(chunks):
        chunk = made.chunks.add(start=64 * number, tokens=64)
        for level, (size, _) in LEVELS.items():
            chunk.encodings.add(level=level, size_bytes=size // (number + 1))
    for level, (size, loss) in LEVELS.items():
        made.levels.add(level=level, size_bytes=size, loss=loss)
    return made


def numbers(found: pb.EstimateResponse) -> list[float]:
    return [x for way in found.ways for x in (way.finish_seconds, way.loss)] + [
        x for each in found.decisions for x in (each.finish_seconds, each.loss, each.bandwidth)
    ]


@pytest.mark.parametrize("bandwidth", [5e-324, 1e-308, 1e-9, 1.0, 1e9, 1e15, 1e300, 1.7976931348623157e308])
@pytest.mark.parametrize("speed", [0.0, 5e-324, 1e-300, 1.0, 1e300])
@pytest.mark.parametrize("recompute", [[], POINTS, [pb.RecomputePoint(tokens=1, seconds=86400)]])
def test_speeds_at_their_limits_give_numbers(bandwidth, speed, recompute):
    settings = pb.LoadSettings(bandwidth=bandwidth, decode_tokens_per_second=speed, recompute=recompute)
    found = estimate(context(3), settings, SPEEDS)
    assert len(found.decisions) >= 1
    assert all(map(math.isfinite, numbers(found)))


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_contract_allows_is_planned_or_refused(seed):
    rng = random.Random(seed)
    drawer = Drawer(rng, World(list(LEVELS), {"": list(LEVELS)}, {}))
    planned = 0
    for _ in range(60):
        settings = drawer.message(pb.LoadSettings.DESCRIPTOR)
        settings.bandwidth = settings.bandwidth or 1000.0
        try:
            validate(settings)
            found = estimate(context(rng.choice([1, 2, 9])), settings, rng.choice([{}, SPEEDS]))
        except (InvalidArgument, OutOfRange):
            continue
        planned += 1
        assert all(map(math.isfinite, numbers(found))), settings
    assert planned > 5
