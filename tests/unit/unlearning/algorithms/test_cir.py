"""CIR: the moments of the retain set token by token, what a projection leaves, and what an update does not touch."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from palimpsest.errors import Cancelled, Reason
from palimpsest.progress import NullProgress
from palimpsest.training.batches import collate
from palimpsest.training.recipe import Recipe
from services.unlearning.algorithms.cir import (
    CirParameters,
    collapse,
    directions,
    forget_gradients,
    leading,
    move,
    projected,
    retain_moments,
    sites_of,
)
from services.unlearning.runs import Data, unlearn
from tests.unit.unlearning.algorithms.conftest import FORGET, RETAIN, mean
from tests.unit.unlearning.algorithms.plain import token_nlls

STEP = 1e-5


def inputs_and_outputs(module, path, example):
    """What one matrix reads and writes of one sequence: [tokens, inputs] and [tokens, outputs]."""
    seen = []
    hook = module.get_submodule(path).register_forward_hook(
        lambda _, given, out: seen.append((given[0], out))
    )
    with torch.no_grad():
        module(input_ids=torch.tensor([example.ids]))
    hook.remove()
    return seen[0][0][0], seen[0][1][0]


def slope_at(module, path, example, token, output):
    """Slope of a sequence's summed NLL along one output of a matrix at one token, by central differences."""
    found = []
    for sign in (1, -1):

        def nudged(_, given, out, sign=sign):
            out = out.clone()
            out[0, token, output] += sign * STEP
            return out

        hook = module.get_submodule(path).register_forward_hook(nudged)
        found.append(sum(token_nlls(module, example)))
        hook.remove()
    return (found[0] - found[1]) / (2 * STEP)


def random_matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_moments_of_inputs_are_those_of_a_plain_loop(inputs):
    """Sequences one by one and without padding; here batches of two, padded, the epoch's last one short."""
    got = retain_moments(inputs)
    assert sorted(got) == sorted(sites_of(inputs.module))
    for name in ("model.layers.0.mlp.up_proj.weight", "model.layers.2.mlp.down_proj.weight"):
        path = name.removesuffix(".weight")
        rows = [row for each in RETAIN for row in inputs_and_outputs(inputs.module, path, each)[0].tolist()]
        size, expected = len(rows[0]), np.zeros((len(rows[0]), len(rows[0])))
        for row in rows:
            for i in range(size):
                for j in range(size):
                    expected[i, j] += row[i] * row[j] / len(rows)
        np.testing.assert_allclose(got[name].inputs.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_moments_of_gradients_are_those_of_finite_differences(inputs):
    name = "model.layers.1.mlp.down_proj.weight"
    path = name.removesuffix(".weight")
    size = inputs.module.get_parameter(name).shape[0]
    rows = [
        [slope_at(inputs.module, path, each, token, output) for output in range(size)]
        for each in RETAIN
        for token in range(len(each.ids))
    ]
    slopes = np.array(rows)
    expected = slopes.T @ slopes / len(rows)
    got = retain_moments(inputs)[name].gradients.numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_leading_components_are_those_of_the_largest_variance():
    states = random_matrix(40, 6) * torch.tensor([9.0, 1, 5, 0.1, 2, 3], dtype=torch.float64)
    moment = states.T @ states / 40
    _, _, vt = np.linalg.svd(states.numpy(), full_matrices=False)
    found = leading(moment, 3)
    assert found.shape == (6, 3)
    # The same subspace: projectors do not depend on the choice of a basis.
    np.testing.assert_allclose((found @ found.T).numpy(), vt[:3].T @ vt[:3], atol=1e-10)
    assert leading(moment, 100).shape == (6, 5)
    assert leading(moment, 0).shape == (6, 0)


def test_a_projection_leaves_what_is_orthogonal_on_both_sides():
    gradient = random_matrix(7, 5)
    inside, outside = (torch.linalg.qr(random_matrix(size, 2, seed)).Q for size, seed in ((5, 1), (7, 2)))
    got = projected(gradient, inside, outside)
    assert (got @ inside).abs().max() < 1e-12
    assert (outside.T @ got).abs().max() < 1e-12
    assert torch.allclose(projected(got, inside, outside), got, atol=1e-12)
    other = projected(random_matrix(7, 5, 9), inside, outside)
    assert (gradient * other).sum().item() == pytest.approx((got * other).sum().item())
    none = gradient.new_zeros(5, 0), gradient.new_zeros(7, 0)
    assert torch.equal(projected(gradient, *none), gradient)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_the_gradient_is_that_of_the_forget_loss(inputs, now, beta):
    """In batches of two, the last short, as for all sequences at once; the weights of tokens take no gradient."""
    inputs = dataclasses.replace(inputs, module=now)
    got = forget_gradients(inputs, beta)
    losses = []
    for example in FORGET:
        logits = now(input_ids=torch.tensor([example.ids])).logits[0].log_softmax(-1)
        losses += [
            -(logits[at - 1, example.ids[at]].detach().exp() ** beta) * -logits[at - 1, example.ids[at]]
            for at in range(1, len(example.ids))
            if example.counted[at]
        ]
    want = torch.autograd.grad(sum(losses) / len(losses), [now.get_parameter(name) for name in got])
    for found, expected in zip(got.values(), want, strict=True):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-14)
    assert all(weight.grad is None for weight in now.parameters())


def test_no_components_are_plain_ascent(inputs):
    got = directions(CirParameters(components=0, beta=0.0), inputs)
    want = forget_gradients(inputs, 0.0)
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_an_update_answers_what_is_kept_as_before(inputs):
    """Inputs in the span of the retain set's components give the same outputs, to the last digits."""
    module = copy.deepcopy(inputs.module)
    own = dataclasses.replace(inputs, module=module)
    parameters = CirParameters(components=4)
    moments, found = retain_moments(own), directions(parameters, own)
    before = {name: site.weight.detach().clone() for name, site in sites_of(module).items()}
    move(module, found, 0.5)
    for name, site in sites_of(module).items():
        inside, outside = leading(moments[name].inputs, 4), leading(moments[name].gradients, 4)
        change = site.weight.detach() - before[name]
        assert change.norm() > 0
        assert (change @ inside).norm() < 1e-10 * change.norm()
        assert (outside.T @ change).norm() < 1e-10 * change.norm()


def test_a_step_has_the_length_it_is_given(inputs):
    module = copy.deepcopy(inputs.module)
    found = {name: torch.randn_like(site.weight) for name, site in sites_of(module).items()}
    before = {name: site.weight.detach().clone() for name, site in sites_of(module).items()}
    move(module, found, 0.25)
    changed = [(before[name] - site.weight).norm() for name, site in sites_of(module).items()]
    whole = torch.stack([weight.norm() for weight in before.values()]).norm()
    assert torch.stack(changed).norm().item() == pytest.approx(0.25 * whole.item())
    still = {name: torch.zeros_like(weight) for name, weight in before.items()}
    kept = [site.weight.detach().clone() for site in sites_of(module).values()]
    move(module, still, 0.25)
    assert all(torch.equal(p, site.weight) for p, site in zip(kept, sites_of(module).values(), strict=True))


def test_it_forgets_with_less_harm_than_plain_ascent(inputs, memorised):
    """At the same rise of the forget loss, the loss on what is to be kept rises less."""
    forget, retain = (collate(each, range(len(each)), 0) for each in (FORGET, RETAIN))

    def harm(components):
        module = copy.deepcopy(memorised)
        own = dataclasses.replace(inputs, module=module, batch=8)
        start = mean(module, retain).item()
        for turn in range(200):
            move(module, directions(CirParameters(components=components), own, turn), 0.01)
            if mean(module, forget).item() > 4:
                break
        assert mean(module, forget).item() > 4
        return mean(module, retain).item() - start

    assert harm(6) < 0.6 * harm(0)


def test_mlp_matrices_change_and_nothing_else_does(inputs, before):
    module = copy.deepcopy(before)
    collapse(CirParameters(components=2, rounds=2), dataclasses.replace(inputs, module=module))
    changed = {
        name
        for name, weight in before.named_parameters()
        if not torch.equal(module.get_parameter(name), weight)
    }
    assert changed == set(sites_of(before))
    assert not any(weight.requires_grad or weight.grad is not None for weight in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())


def test_a_run_is_of_its_seed_and_can_be_stopped(before):
    recipe, data = Recipe(steps=1, batch=2, seed=5), Data(FORGET, RETAIN)
    values = {"components": 3, "rounds": 3}
    made = []
    for _ in range(2):
        module = copy.deepcopy(before)
        unlearn(module, "cir", data, recipe, progress=NullProgress(), parameters=values)
        made.append(module.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])

    class Stops(NullProgress):
        def check(self):
            raise Cancelled(Reason.JOB_CANCELLED, "The job was cancelled.")

    with pytest.raises(Cancelled):
        unlearn(copy.deepcopy(before), "cir", data, recipe, progress=Stops(), parameters=values)


def test_matrices_stored_the_other_way_round_are_projected_along_their_inputs():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=29, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    module = GPT2LMHeadModel(config).double().eval()
    from services.unlearning.algorithms import Inputs

    own = Inputs(module, FORGET, RETAIN, batch=2)
    moments, found = retain_moments(own), directions(CirParameters(components=3), own)
    for name, change in found.items():
        assert change.shape == module.get_parameter(name).shape
        inside = leading(moments[name].inputs, 3)
        assert (inside.T @ change).norm() < 1e-9 * change.norm()
