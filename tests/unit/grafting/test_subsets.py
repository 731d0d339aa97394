"""All subsets at once, against one graft for each; values against loops over orders; sets that are enough."""

import itertools

import numpy as np
import pytest

from services.grafting.attribution.intervals import intervals
from services.grafting.attribution.shapley import values_of
from services.grafting.attribution.sufficient import smallest_sufficient
from services.grafting.attribution.trie import SubsetPass, Trie
from services.grafting.engine import Configuration, ModelWeights, Patch, architecture_of
from services.grafting.engine.configurations import COMPONENTS
from services.grafting.runs import Case, PromptRun
from services.grafting.sweeps import subset_rows
from tests.unit.grafting.test_runs import LAYER
from tests.unit.grafting.zoo import ARCHITECTURES, LAYERS, drawn_ids, grafter, make, near

SEGMENTS = ((5, 6), (0, 1, 2, 8), (3,))
"""Not in the order in which they begin, and one of them in two parts."""
KINDS = {
    "all layers": (range(LAYERS), LAYER),
    "a window": (range(1, 2), ("o", "up", "down")),
    "everything": (range(LAYERS), COMPONENTS),
    "what follows the layers": (range(LAYERS), ("final_norm", "head")),
}


def subsets(engine, sources, case: Case, segments, layers, components):
    run = PromptRun(engine, case)
    extended = [
        case.extended(Configuration((Patch(s, layers, components),))).patches[0].positions for s in segments
    ]
    before = engine.row_layers
    own = SubsetPass(engine, sources, run.base, Trie(len(case.ids), extended), layers, components)
    return run, own.read(run.reader, len(case.target), lambda: None), engine.row_layers - before


def sources_of(*models):
    architecture = architecture_of(models[0])
    return [ModelWeights(model, architecture) for model in models]


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_subset_is_its_own_graft(name: str, kind: str):
    pair = make(name, 0), make(name, 1)
    engine, (layers, components) = grafter(*pair), KINDS[kind]
    components = tuple(c for c in components if c != "gate" or engine.architecture.has_gate)
    ids, continued = tuple(drawn_ids(3)), name != "gpt2"
    for case in (Case(ids, (5,)), Case(ids, (5, 9, 2), continued)):
        run, found, _ = subsets(engine, sources_of(*pair), case, SEGMENTS, layers, components)
        assert len(found) == 7
        for number, reading in enumerate(found, 1):
            chosen = [p for at, own in enumerate(SEGMENTS) if number >> at & 1 for p in own]
            whole = case.extended(Configuration((Patch(chosen, layers, components),)))
            alone = run.reader.read(engine.forward(case.ids, whole, len(case.target)))
            assert reading.token_logprobs == pytest.approx(alone.token_logprobs, abs=1e-4)
            assert reading.kl_donor == pytest.approx(alone.kl_donor, abs=1e-4)


def test_subsets_have_the_rows_of_their_tree():
    """An entity of 4 tokens, a relation of 2, a title of 3 and the last token: 56 rows, where 16 passes have 160."""
    base = make("llama", 0)
    pair = base, near(base, 1)
    engine, segments = grafter(*pair), (range(4), range(4, 6), range(6, 9), (9,))
    case, sources = Case(tuple(drawn_ids(1, 10)), (3,)), sources_of(*pair)
    _, found, rows = subsets(engine, sources, case, segments, range(LAYERS), LAYER)
    assert len(found) == 15
    assert rows + 10 * LAYERS == 56 * LAYERS, "with the pass of nothing, which is the base's own"
    assert subset_rows(10, [0, 4, 6, 9]) + 10 == 56
    assert Trie(10, segments).rows + 10 == 56


def by_orders(worth, players: int):
    """Both values by their definitions: a loop over orders."""
    shapley, orders = np.zeros(players), list(itertools.permutations(range(players)))
    for order in orders:
        there = 0
        for player in order:
            shapley[player] += worth[there | 1 << player] - worth[there]
            there |= 1 << player
    interactions = np.zeros((players, players))
    for i, j in itertools.permutations(range(players), 2):
        merged = [
            order for order in itertools.permutations(range(players)) if order.index(j) == order.index(i) + 1
        ]
        for order in merged:
            there = sum(1 << player for player in order[: order.index(i)])
            both = there | 1 << i | 1 << j
            interactions[i, j] += worth[both] - worth[there | 1 << i] - worth[there | 1 << j] + worth[there]
        interactions[i, j] /= len(merged)
    return shapley / len(orders), interactions


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_values_are_means_over_orders(players: int):
    worth = np.random.default_rng(players).normal(size=1 << players)
    found, (shapley, interactions) = values_of(worth.tolist()), by_orders(worth, players)
    assert found.shapley == pytest.approx(shapley)
    assert found.interactions == pytest.approx(interactions)
    assert found.shapley.sum() == pytest.approx(worth[-1] - worth[0])


def test_what_only_works_together_interacts_and_what_stands_in_for_another_does_so_the_other_way():
    both = values_of([0, 0, 0, 1])
    assert (both.shapley.tolist(), both.interactions[0, 1]) == ([0.5, 0.5], 1)
    either = values_of([0, 1, 1, 1])
    assert (either.shapley.tolist(), either.interactions[0, 1]) == ([0.5, 0.5], -1)
    assert values_of([0, 1, 2, 3]).interactions[0, 1] == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_set_that_is_enough_loses_it_without_any_of_its_units(seed: int):
    draw, units = np.random.default_rng(seed), 6
    worth = {0: 0.0}
    for number in range(1, 1 << units):  # recovery that need not grow with the set
        worth[number] = draw.uniform(0, 1) + 0.2 * number.bit_count()
    asked = []

    def recover(sets):
        asked.extend(sets)
        return [worth[sum(1 << unit for unit in own)] for own in sets]

    order = draw.permutation(units).tolist()
    found = smallest_sufficient(order, 1.2, recover)
    assert found.units
    assert found.grafts == len(asked)
    number = sum(1 << unit for unit in found.units)
    assert found.recovery == worth[number] >= 1.2
    assert all(worth[number & ~(1 << unit)] < 1.2 for unit in found.units)
    nothing = smallest_sufficient(order, 9.0, recover)
    assert (nothing.units, nothing.recovery) == ((), worth[(1 << units) - 1])


def test_intervals_are_those_of_drawn_cases():
    rows = np.random.default_rng(0).normal(size=(3, 12))
    for row, found in zip(rows, intervals(rows), strict=True):
        draw = np.random.default_rng(1)
        means = [draw.choice(row, len(row)).mean() for _ in range(20_000)]
        low, high = np.quantile(means, [0.025, 0.975])
        assert found.mean == pytest.approx(row.mean())
        assert (found.low, found.high) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))
    assert intervals(np.full((1, 4), 0.5))[0] == (0.5, 0.5, 0.5)
    assert intervals(np.array([[0.5]]))[0] == (0.5, None, None)
