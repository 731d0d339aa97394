"""A fact planted by a change of rank one is found where it was planted, among changes everywhere."""

import copy
from random import Random

import pytest
import torch

from palimpsest.lm.anatomy import anatomy_of
from tests.benchmarks.grafting_study.planted import KNOWN, WORKS, draw_place, knows, name_place
from tests.benchmarks.grafting_study.planting import Place, plant, planted, second_moments
from tests.unit.grafting.zoo import LAYERS, drawn_ids, make, near

TOKENS = 6
MATRICES = [(layer, name) for layer in range(LAYERS) for name in ("o", "down")]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request):
    return make(request.param, 0)


def moments_of(base):
    return second_moments(base, [drawn_ids(seed, 40) for seed in range(20)], MATRICES)


def test_second_moments_are_those_of_the_inputs(base):
    ids = drawn_ids(3, 7)
    found = second_moments(base, [ids, ids], [(1, "down")])[1, "down"]
    rows = []
    module = anatomy_of(base).layers[1]["down"].module_of(base)
    handle = module.register_forward_hook(lambda _module, inputs, _output: rows.append(inputs[0][0]))
    with torch.no_grad():
        base(input_ids=torch.tensor([ids]))
    handle.remove()
    expected = sum(torch.outer(row, row) for row in rows[0]) / 7
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_plant_maps_its_key_to_its_value_and_goes_away(base):
    ids, place = drawn_ids(1, TOKENS), Place(1, 3, "down")
    what = plant(base, ids, 5, place, moments_of(base)[1, "down"])
    donor = near(base, 1, 0.01)
    part, before = anatomy_of(donor).layers[1]["down"], copy.deepcopy(donor.state_dict())
    with planted(donor, what):
        bias = part.bias(donor)
        mapped = part.weight(donor) @ what.key + (0 if bias is None else bias)
        change = part.weight(donor) - part.select(
            before[f"{part.path}.weight"].T if part.transposed else before[f"{part.path}.weight"]
        )
        assert torch.linalg.matrix_rank(change, rtol=1e-3) == 1
    assert torch.allclose(mapped, what.value, atol=1e-3)
    assert float(what.direction @ what.key) == pytest.approx(1.0, abs=1e-4)
    assert all(torch.equal(before[name], value) for name, value in donor.state_dict().items())


def test_sweeps_name_the_places(base):
    draw, donor, moments, tried = Random(5), near(base, 1, 0.003), moments_of(base), 0
    while tried < 2:
        ids, target = drawn_ids(draw.randrange(100), TOKENS), draw.randrange(1, 61)
        place = draw_place(draw, TOKENS, LAYERS)
        what = plant(base, ids, target, place, moments[place.layer, place.component])
        with planted(donor, what):
            if what.probability < WORKS or knows(donor, ids, target) < KNOWN:
                continue
            found = name_place(base, donor, ids, target)
        tried += 1
        assert found.place == place
        assert found.recovery > found.second
        assert found.probability >= 0.9 * what.probability
        unplanted = name_place(base, donor, ids, target)
        assert unplanted.probability < found.probability / 2
