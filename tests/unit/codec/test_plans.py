"""Estimates at the ends of what the contract allows: an answer in finite numbers, soon."""

import itertools
import math

import pytest

from palimpsest.api.codec.v1 import codec_pb2 as pb
from services.codec.plans import estimate
from tests.played_loads import stored

TINY, HUGE = 5e-324, 1.7e308
CURVES = {
    "none": [],
    "free": [(2048, 0.0)],
    "quick": [(1, TINY)],
    "slow": [(1, 86_400.0)],
    "usual": [(1000, 1.0), (2048, 3.0)],
}
DEADLINES = [(0.0, 0.0), (TINY, 0.0), (10.0, 9.0), (10.0, 10.0), (1e-9, 86_400.0), (86_400.0, 0.0)]


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("bandwidth", [TINY, 1e-9, 1.0, 1e9, 1e300, HUGE, math.inf])
def test_extremes_are_estimated(curve, bandwidth):
    context, _ = stored(1500, 512)
    for decoding, (deadline, tail), sharers in itertools.product([0.0, TINY, math.inf], DEADLINES, [10_000]):
        settings = pb.LoadSettings(
            bandwidth=bandwidth,
            decode_tokens_per_second=decoding,
            deadline_seconds=deadline,
            tail_seconds=tail,
            sharers=sharers,
            recompute=[
                pb.RecomputePoint(tokens=tokens, seconds=seconds) for tokens, seconds in CURVES[curve]
            ],
        )
        found = estimate(context, settings, {})
        numbers = [each.finish_seconds for each in [*found.ways, *found.decisions]]
        assert all(math.isfinite(number) and number >= 0 for number in numbers)
        assert sorted({decision.chunk for decision in found.decisions}) == [0, 1, 2]


@pytest.mark.parametrize("tokens", [40, 512, 1500, 4000])
@pytest.mark.parametrize("bandwidth", [1e5, 1e6, 1e7, 1e8, 1e9])
def test_on_a_steady_link_no_level_within_the_budget_is_quicker_than_adaptive(tokens: int, bandwidth: float):
    context, _ = stored(tokens, 512)
    found = estimate(context, pb.LoadSettings(bandwidth=bandwidth), {})
    adaptive, *others = found.ways
    assert adaptive.name == "adaptive"
    assert not adaptive.over_budget
    within = [way for way in others if not way.over_budget]
    assert within
    # It fetches from the back, so that what is decoded last is a whole chunk, where in order it may be a short one.
    limit = 1.0001 if tokens <= 512 else 1.02
    assert adaptive.finish_seconds <= limit * min(way.finish_seconds for way in within)
