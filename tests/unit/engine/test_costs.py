"""How long prefilling takes: fitted to pieces, whatever their places, and measured where nothing was prefilled."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.engine import Request
from palimpsest.engine.costs import StepCost
from tests.waiting import until

from .collecting import run


@given(
    a=st.floats(1e-6, 1e-2),
    share=st.floats(0.01, 10),  # of the cost that attention has at position 1000
    pieces=st.lists(
        st.tuples(st.integers(0, 4000), st.integers(1, 256)), min_size=2, max_size=40, unique=True
    ),
)
def test_pieces_that_follow_the_law_give_it_back(a, share, pieces):
    b = a * share / 1000
    cost = StepCost()
    assert not cost.prefill_known
    assert cost.prefill_curve(4096) == []
    for start, tokens in pieces:
        cost.saw_prefill(start, tokens, a * tokens + b * tokens * (start + tokens / 2))
    for start, tokens in pieces[-3:] if len({s + t / 2 for s, t in pieces}) > 1 else pieces[-1:]:
        expected = a * tokens + b * tokens * (start + tokens / 2)
        spread = max(s + t / 2 for s, t in pieces[-20:]) - min(s + t / 2 for s, t in pieces[-20:])
        if spread > 100:
            assert cost.prefill(start, start + tokens) == pytest.approx(expected, rel=0.05)
    curve = cost.prefill_curve(3000)
    assert curve[-1][0] == 3000
    assert all(x < y and s <= t for (x, s), (y, t) in itertools.pairwise(curve))


def test_what_was_seen_last_counts_most():
    cost = StepCost()
    cost.saw_prefill(0, 64, 64.0, first=True)
    cost.saw_prefill(1024, 64, 64.0, first=True)
    assert cost.prefill(0, 100) == pytest.approx(100, rel=0.01)
    for n in range(100):
        cost.saw_prefill(64 * n, 64, 0.64)
    assert cost.prefill(0, 100) == pytest.approx(1.0, rel=0.1)


def test_an_engine_measures_itself_once_and_learns(make_engine):
    engine = make_engine()
    curve = engine.prefill_curve()
    assert curve[-1][0] == engine.model.context_length
    assert all(seconds > 0 for _, seconds in curve)
    until(lambda: engine.idle)
    assert engine.model.pool.used == engine.cache_bytes_used == 0
    assert engine.counters.prefill_tokens == 0
    assert engine.prefill_curve() == curve
    run(engine, Request([5] * 200, max_tokens=2, ignore_eos=True))
    assert engine.prefill_curve() != curve


def test_a_small_cache_is_measured_too(make_engine):
    engine = make_engine(cache_bytes=4 * 16 * 2 * 2 * 2 * 16 * 4)
    assert engine.prefill_curve()
    until(lambda: engine.idle)
    assert engine.model.pool.used == 0


def test_relative_costs_are_learnt_and_never_fall():
    cost = StepCost()
    costs = cost.relative
    assert costs(1) == 1
    assert costs(8) == 2
    for _ in range(50):
        cost.saw_decode(1, 0, 0.010)
        cost.saw_decode(16, 0, 0.020)
        cost.saw_decode(64, 0, 0.080)
    assert costs(1) == 1
    assert costs(16) == pytest.approx(2.3, abs=0.4)
    assert costs(64) == pytest.approx(8)
    assert all(a <= b for a, b in zip(map(costs, range(1, 200)), map(costs, range(2, 201)), strict=True))


def test_an_engine_learns_what_its_decode_steps_cost(make_engine):
    engine = make_engine()
    assert engine.costs.decode(1) == 0
    run(engine, Request([5] * 20, max_tokens=8, ignore_eos=True, n=3))
    assert engine.costs.decode(3, looked_at=60) > 0
