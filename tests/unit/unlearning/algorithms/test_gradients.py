"""Gradients equal central differences of the loss, in float64, along random directions."""

import pytest
import torch

from palimpsest.training.token_losses import token_nll
from services.unlearning.algorithms import build
from services.unlearning.algorithms.ascent import weighted_ascent
from services.unlearning.algorithms.objective import GivenGradient

STEP = 1e-6
PLAIN = [
    ("ga", {}),
    ("ga_gdr", {"alpha": 2.0}),
    ("ga_klr", {}),
    ("npo", {"beta": 0.5}),
    ("npo_gdr", {"length_norm": "token"}),
    ("npo_klr", {"length_norm": "sqrt"}),
    ("npo_klr", {"legacy_muse": True}),
    ("simnpo", {}),
    ("dpo", {"beta": 0.4}),
    ("idk", {}),
    ("flat", {"divergence": "tv"}),
    ("flat", {"divergence": "kl"}),
    ("flat", {"divergence": "pearson"}),
    ("rmu", {}),
    ("undial", {}),
    ("bad_teaching", {}),
    ("undo", {}),
    ("retrain", {}),
]


def direction(module, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in module.parameters()]


def slope(value, module, along):
    """Directional derivative of ``value()`` at the module's weights, by central differences."""
    found = []
    with torch.no_grad():
        for sign in (1, -1):
            for weight, step in zip(module.parameters(), along, strict=True):
                weight.add_(sign * STEP * step)
            found.append(value().item())
            for weight, step in zip(module.parameters(), along, strict=True):
                weight.sub_(sign * STEP * step)
    return (found[0] - found[1]) / (2 * STEP)


def along_gradient(loss, module, along):
    gradient = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return sum((g * d).sum().item() for g, d in zip(gradient, along, strict=True) if g is not None)


@pytest.mark.parametrize(("name", "values"), PLAIN)
def test_a_gradient_is_the_slope_of_its_loss(name, values, inputs, now):
    objective = build(name, values, inputs)
    for seed in range(2):
        along = direction(now, seed)
        got = along_gradient(objective.loss(now, seed), now, along)
        want = slope(lambda seed=seed: objective.loss(now, seed), now, along)
        assert got == pytest.approx(want, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("powers", [(1.0, 0.0), (2.0, 0.5)])
def test_the_weights_of_tokens_take_no_gradient(powers, inputs, now):
    """WGA and SatImp: the slope with the weights held where they are."""
    batch = inputs.forget_batch(0)
    counted = batch.counted[:, 1:]
    fixed = (-token_nll(now, batch).detach()).exp()
    weights = fixed ** powers[0] * (1 - fixed) ** powers[1] * counted

    def held():
        return -(weights * token_nll(now, batch)).sum() / counted.sum()

    along = direction(now, 4)
    got = along_gradient(weighted_ascent(token_nll(now, batch), counted, *powers), now, along)
    assert got == pytest.approx(slope(held, now, along), rel=1e-5)


def test_the_parts_give_the_gradient_of_the_loss(inputs, now):
    objective = build("npo_gdr", {}, inputs)
    along = direction(now, 5)
    whole = along_gradient(objective.loss(now, 0), now, along)
    parts = sum(along_gradient(part, now, along) for part in objective.parts(now, 0))
    assert parts == pytest.approx(whole, rel=1e-9)


def test_a_given_gradient_is_given_on():
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    given = torch.tensor([1.0, 2.0, 3.0])
    value = GivenGradient.apply(torch.tensor(7.0), 2, first, second, given, None)
    (0.5 * value).backward()
    assert value.item() == 7.0
    assert first.grad.tolist() == [0.5, 1.0, 1.5]
    assert second.grad is None
