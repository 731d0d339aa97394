"""What steps cost, and what that decides."""

import pytest

from palimpsest.decoding.drafts import DraftSettings, DraftStrategy
from palimpsest.decoding.drafts.costs import DraftCosts, cheapest, probe_costs
from palimpsest.engine.costs import PROBED, StepCost, decode_probe_blocks


def costs_of(base: dict[int, float], per_token: float, per_choice: float) -> DraftCosts:
    steps = StepCost()
    steps.probed(base, per_token)
    return DraftCosts(steps, per_choice)


FLAT = costs_of({1: 1.0, 64: 1.0}, per_token=0.0, per_choice=0.0)
"""Rows cost nothing beside others: a batch is as fast as one sequence."""
DEAR = costs_of({1: 1.0, 2: 2.0}, per_token=0.0, per_choice=0.0)
"""Every row costs as much as the first."""


def test_steps_between_and_beyond_what_was_measured():
    costs = costs_of({4: 3.0, 1: 1.0, 2: 1.5}, per_token=0.01, per_choice=9.0)
    measured = [costs.steps.decode(n, 0) for n in (1, 2, 4)]
    assert measured == [1.0, 1.5, 3.0]
    assert costs.steps.decode(3, 0) == pytest.approx(2.25)
    assert costs.steps.decode(8, 0) == pytest.approx(6.0)
    assert costs.steps.decode(0, 0) == 1.0
    assert costs.steps.decode(1, 50) == pytest.approx(1.5)


def test_costs_of_drafts():
    costs = costs_of({1: 1.0, 2: 2.0}, per_token=0.001, per_choice=0.1)
    one = costs.drafts(DraftSettings(k=3, strategy=DraftStrategy.SUPERPOSED), 95, 10, 0)
    assert one == pytest.approx(9 * (1 + 0.1 + 0.1))
    three = costs.drafts(DraftSettings(k=3, strategy=DraftStrategy.BEAM), 95, 10, 0)
    assert three == pytest.approx(3 * one)
    beside = costs.drafts(DraftSettings(k=3, strategy=DraftStrategy.BEAM), 95, 10, 4)
    assert beside == pytest.approx(9 * (7 + 0.3 + 0.3))
    # 0.65 * 6 * 9 = 35 nodes in one pass.
    verified = costs.drafts(DraftSettings(k=3), 95, 10, 0)
    assert verified == pytest.approx(8 * 1.2 + 35 * (1 + 0.1 + 0.05))
    # 0.65 * 20 * 29 = 377 nodes in passes of 64.
    long = costs.drafts(DraftSettings(k=10), 85, 30, 0)
    assert long == pytest.approx(28 * 1.2 + 377 * 1.15)
    assert costs.drafts(DraftSettings(k=3), 95, 1, 0) == 0


@pytest.mark.parametrize("samples", [False, True])
def test_the_cheapest(samples):
    each = DraftStrategy.NUCLEUS if samples else DraftStrategy.BEAM
    settings = DraftSettings(k=3, over_generate=5, reset_every=2)  # belong to strategies that are not meant
    chosen, expected = cheapest(DEAR, settings, 20, 10, 0, samples)
    assert chosen is DraftStrategy.SUPERPOSED
    assert expected == {each: pytest.approx(27.0), DraftStrategy.SUPERPOSED: pytest.approx(9.0)}
    chosen, expected = cheapest(FLAT, settings, 20, 10, 0, samples)
    assert chosen is each  # for the same time, the better drafts
    assert expected[each] == expected[DraftStrategy.SUPERPOSED] == pytest.approx(9.0)


def test_the_cheapest_by_length_load_and_reading():
    deep = costs_of({1: 1.0, 64: 1.0}, per_token=0.01, per_choice=0.0)
    settings = DraftSettings(k=3, strategy=DraftStrategy.SUPERPOSED)
    assert cheapest(deep, settings, 1, 10, 0, False)[0] is DraftStrategy.SUPERPOSED
    assert cheapest(deep, settings, 1000, 10, 0, False)[1][DraftStrategy.BEAM] > 100
    # Beside a hundred rows, two more or less make no difference worth the worse drafts.
    assert cheapest(DEAR, settings, 20, 10, 3, False)[0] is DraftStrategy.SUPERPOSED
    assert cheapest(DEAR, settings, 20, 10, 100, False)[0] is DraftStrategy.BEAM
    # Reading them exactly costs more than has been saved.
    read = DraftSettings(k=3, strategy=DraftStrategy.SUPERPOSED, exact=True)
    assert cheapest(DEAR, read, 20, 10, 0, False)[0] is DraftStrategy.BEAM
    together = costs_of({1: 1.0, 3: 3.0, 17: 3.0}, per_token=0.0, per_choice=0.0)
    assert cheapest(together, read, 20, 10, 0, False)[0] is DraftStrategy.SUPERPOSED
    half = costs_of({1: 1.0, 3: 1.2, 17: 9.0}, per_token=0.0, per_choice=0.0)
    assert cheapest(half, settings, 20, 10, 0, False)[0] is DraftStrategy.SUPERPOSED
    assert cheapest(half, read, 20, 10, 0, False)[0] is DraftStrategy.BEAM
    assert cheapest(DEAR, settings, 20, 1, 0, False)[0] is DraftStrategy.BEAM


def test_probing(tiny):
    needed = decode_probe_blocks(tiny)
    tiny.pool.forget_prefixes()
    kept = [tiny.pool.take() for _ in range(tiny.pool.available - needed)]
    work = probe_costs(tiny, StepCost())
    steps = 0
    try:
        while True:
            assert next(work) is None
            steps += 1
    except StopIteration as end:
        costs = end.value
    finally:
        assert tiny.pool.used == len(kept)
        for block in kept:
            tiny.pool.drop(block)
    assert steps >= 3 * len(PROBED)
    assert costs.steps.decode_probed
    rows = [costs.steps.decode(n) for n in PROBED]
    assert min(rows) > 0
    assert rows == sorted(rows)
    assert costs.steps.decode(8, 1000) >= costs.steps.decode(8)
    assert costs.per_choice > 0
    assert [costs.steps.decode(n, 0) for n in range(1, 50)] == sorted(
        costs.steps.decode(n, 0) for n in range(1, 50)
    )


def test_probing_that_is_given_up_leaves_nothing(tiny):
    work = probe_costs(tiny, StepCost())
    for _ in range(4):
        next(work)
    assert tiny.pool.used > 0
    work.close()
    assert tiny.pool.used == 0
