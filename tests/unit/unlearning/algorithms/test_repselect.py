"""RepSelect: the spectrum after a collapse, the gradient it is of, and the walk."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.training.batches import collate
from services.unlearning.algorithms.repselect import (
    RepSelectParameters,
    collapsed,
    elicited,
    forget_gradients,
    selective_directions,
    walk,
)
from tests.unit.unlearning.algorithms.conftest import FORGET, mean


def random_matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 12), st.integers(0, 5))
def test_a_soft_collapse_levels_the_leading_components(rows, columns, components, seed):
    """Both sides divide by s_i / s_k, so component i goes from s_i to s_k^2 / s_i; the others stay."""
    matrix = random_matrix(rows, columns, seed)
    u, s, vt = np.linalg.svd(matrix.numpy(), full_matrices=False)
    k = min(components, len(s))
    s[:k] = s[k - 1] ** 2 / s[:k]
    got = collapsed(matrix, components, "soft")
    np.testing.assert_allclose(got.numpy(), u @ np.diag(s) @ vt, atol=1e-10)


@pytest.mark.parametrize("components", [1, 3, 20])
def test_a_hard_collapse_removes_them(components):
    matrix = random_matrix(7, 5)
    u, s, vt = np.linalg.svd(matrix.numpy(), full_matrices=False)
    s[:components] = 0
    got = collapsed(matrix, components, "hard")
    np.testing.assert_allclose(got.numpy(), u @ np.diag(s) @ vt, atol=1e-12)


def test_no_collapse_is_the_gradient():
    matrix = random_matrix(4, 6)
    assert collapsed(matrix, 3, "none") is matrix


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_a_transposed_matrix_gives_the_transpose(mode):
    matrix = random_matrix(8, 5)
    got = collapsed(matrix.T.contiguous(), 2, mode).T
    assert torch.allclose(got, collapsed(matrix, 2, mode), atol=1e-12)


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_a_gradient_without_rank_stays_finite(mode):
    assert torch.equal(collapsed(torch.zeros(4, 3), 2, mode), torch.zeros(4, 3))
    one = torch.outer(torch.arange(1.0, 5.0), torch.arange(1.0, 4.0))
    assert collapsed(one, 3, mode).isfinite().all()
    if mode == "soft":  # one component has nothing to be levelled with
        assert torch.allclose(collapsed(one, 3, mode), one, rtol=1e-5)


def test_the_decomposition_of_a_large_matrix_is_of_its_seed():
    matrix = random_matrix(1100, 1030).float()
    state = torch.random.get_rng_state()
    first, second = (collapsed(matrix, 4, "hard", seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.norm() < matrix.norm()


def test_the_gradient_is_that_of_the_forget_set_s_likelihood(inputs, now):
    """In batches of two, the last short, as for all sequences at once."""
    inputs = dataclasses.replace(inputs, module=now)
    loss = -mean(now, collate(FORGET, range(len(FORGET)), 0))
    names = [f"model.layers.{n}.mlp.{part}_proj.weight" for n in range(3) for part in ("gate", "up", "down")]
    want = torch.autograd.grad(loss, [now.get_parameter(name) for name in names])
    got = forget_gradients(inputs)
    assert sorted(got) == sorted(names)
    for name, gradient in zip(names, want, strict=True):
        assert torch.allclose(got[name], gradient, rtol=1e-9, atol=1e-14)
    assert all(weight.grad is None for weight in now.parameters())


def test_a_frozen_model_stays_frozen(inputs, before):
    forget_gradients(inputs)
    assert not any(weight.requires_grad for weight in before.parameters())


def test_an_adapter_says_more_of_the_forget_set_while_it_is_there(inputs, before):
    whole = collate(FORGET, range(len(FORGET)), 0)
    was = {name: weight.clone() for name, weight in before.named_parameters()}
    without = mean(before, whole).item()
    plain_gradients = forget_gradients(inputs)
    with elicited(inputs, 0.5):
        assert mean(before, whole).item() < without
        gradients = forget_gradients(inputs)
    assert gradients.keys() == plain_gradients.keys()
    assert not any(torch.equal(gradients[name], plain_gradients[name]) for name in gradients)
    now = dict(before.named_parameters())
    assert now.keys() == was.keys()
    assert all(torch.equal(now[name], was[name]) for name in was)
    assert not any(weight.requires_grad for weight in now.values())
    assert mean(before, whole).item() == without


def test_no_elicitation_is_the_plain_gradient(inputs):
    want = {name: collapsed(g, 3, "hard") for name, g in forget_gradients(inputs).items()}
    got = selective_directions(RepSelectParameters(components=3, collapse="hard", elicitation=0), inputs)
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_the_walk_moves_mlp_matrices_and_nothing_else(inputs, before):
    moved = copy.deepcopy(before)
    directions = selective_directions(RepSelectParameters(components=2), inputs)
    walk(moved, directions, 0.5)
    for name, weight in before.named_parameters():
        want = weight - 0.5 * directions[name] if name in directions else weight
        assert torch.equal(moved.get_parameter(name), want)
    walk(moved, directions, 0.0)
    assert torch.equal(moved.model.embed_tokens.weight, before.model.embed_tokens.weight)
