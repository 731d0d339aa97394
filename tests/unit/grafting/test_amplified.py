"""Weights between and beyond two models, against models whose weights are mixed."""

import copy

import pytest
import torch

from services.grafting.engine import AmplifiedWeights, Configuration, Grafter, ModelWeights, architecture_of
from tests.unit.grafting.zoo import drawn, drawn_ids, everything, make, near, own, swapped

WEIGHTS = (-1.5, 0.0, 0.3, 1.0, 2.0)


@pytest.fixture(params=["llama", "qwen3", "gemma", "gpt2", "neox"])
def pair(request):
    base = make(request.param, 0)
    return base, near(base, 1)


def amplified(pair, weight: float) -> Grafter:
    """A grafter whose source 1 is the amplified donor."""
    architecture = architecture_of(pair[0])
    base, donor = (ModelWeights(model, architecture) for model in pair)
    return Grafter([base, AmplifiedWeights(base, donor, weight)], architecture)


def mixed(pair, weight: float):
    """A model with base + weight * (donor - base) written into it."""
    made = copy.deepcopy(pair[0])
    with torch.no_grad():
        for mine, theirs in zip(made.parameters(), pair[1].parameters(), strict=True):
            mine.copy_((mine.double() + weight * (theirs.double() - mine.double())).float())
    return made


@pytest.mark.parametrize("weight", WEIGHTS)
def test_everything_amplified_is_the_model_with_those_weights(pair, weight: float):
    ids = drawn_ids(0)
    found = amplified(pair, weight).forward(ids, everything(9))
    expected = own(mixed(pair, weight), ids)
    assert float((found - expected).abs().max()) <= 2e-4


def test_some_rows_amplified_are_a_swap_of_those_weights(pair):
    ids, configuration = drawn_ids(1, 6), drawn(1, 6)
    found = amplified(pair, 2.0).forward(ids, configuration)
    expected = swapped((pair[0], mixed(pair, 2.0)), ids, configuration)
    assert float((found - expected).abs().max()) <= 1e-3


@pytest.mark.parametrize(("weight", "model"), [(0.0, 0), (1.0, 1)])
def test_the_ends_are_the_models_exactly(pair, weight: float, model: int):
    ids, architecture = drawn_ids(2), architecture_of(pair[0])
    plain = Grafter([ModelWeights(pair[model], architecture)] * 2, architecture)
    found = amplified(pair, weight).forward(ids, Configuration(base=1))
    assert torch.equal(found, plain.forward(ids, Configuration(base=1)))
