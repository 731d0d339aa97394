"""The sharpness-aware step: value and gradient at the worst weights nearby, and nothing left behind."""

import copy

import pytest
import torch

from services.unlearning.algorithms import build
from services.unlearning.algorithms.preference import NpoParameters, npo_term
from services.unlearning.algorithms.sharpness import sharpness_aware

RHO = 0.05


@pytest.fixture
def term(inputs):
    return npo_term(NpoParameters(), inputs)


def gradients(value, module):
    return torch.autograd.grad(value, list(module.parameters()))


def perturbed(module, term, rho):
    """A copy at theta + rho g / |g|, the long way."""
    flat = torch.cat([g.flatten() for g in gradients(term(module, 0), module)])
    step = rho * flat / flat.square().sum().sqrt()
    moved, at = copy.deepcopy(module), 0
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(step[at : at + weight.numel()].view_as(weight))
            at += weight.numel()
    return moved


def test_value_and_gradient_are_those_at_the_worst_weights(term, now):
    moved = perturbed(now, term, RHO)
    value = sharpness_aware(term, RHO)(now, 0)
    assert value.item() == pytest.approx(term(moved, 0).item(), rel=1e-9)
    for got, want in zip(gradients(value, now), gradients(term(moved, 0), moved), strict=True):
        assert torch.allclose(got, want, rtol=1e-7, atol=1e-12)


def test_the_weights_are_worse_there(term, now):
    assert sharpness_aware(term, RHO)(now, 0).item() > term(now, 0).item()


def test_no_weight_changes(term, now):
    kept = {name: (weight.data_ptr(), weight.detach().clone()) for name, weight in now.named_parameters()}
    sharpness_aware(term, RHO)(now, 0).backward()
    for name, weight in now.named_parameters():
        assert weight.data_ptr() == kept[name][0]
        assert torch.equal(weight, kept[name][1])


def test_no_weight_changes_where_the_second_pass_fails(term, now):
    kept = [weight.detach().clone() for weight in now.parameters()]
    calls = []

    def fails(module, step):
        calls.append(step)
        if len(calls) == 2:
            raise RuntimeError("no memory")
        return term(module, step)

    with pytest.raises(RuntimeError, match="no memory"):
        sharpness_aware(fails, RHO)(now, 0)
    assert all(torch.equal(weight, was) for weight, was in zip(now.parameters(), kept, strict=True))


def test_radius_zero_is_npo(inputs, now):
    flat = build("npo_gdr", {}, inputs).loss(now, 1).item()
    assert build("npo_sam", {"rho": 0}, inputs).loss(now, 1).item() == pytest.approx(flat, rel=1e-12)


def test_only_the_forget_term_is_sharp(inputs, now):
    """The retain term is that of NPO+GDR at the weights as they are."""
    _, sharp = build("npo_sam", {"rho": 0.5}, inputs).parts(now, 0)
    _, plain = build("npo_gdr", {}, inputs).parts(now, 0)
    assert sharp.item() == plain.item()


def test_weights_that_are_not_trained_stay_where_they_are(inputs, term, now):
    now.requires_grad_(False)
    trained = now.model.layers[0].mlp.down_proj.weight.requires_grad_(True)
    sharpness_aware(term, RHO)(now, 0).backward()
    assert trained.grad is not None
    assert [w for w in now.parameters() if w.grad is not None] == [trained]
