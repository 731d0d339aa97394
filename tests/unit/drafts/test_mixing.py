"""The arithmetic of superposed drafts, against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from palimpsest.decoding.drafts.mixing import best_children, largest, mix, shared_candidates, shares
from palimpsest.decoding.drafts.search import best_first
from palimpsest.decoding.drafts.superposing import contexts

LN = math.log


def test_shared_candidates_are_renormalised():
    logits = torch.tensor([LN(1.0), LN(4.0), LN(2.0), LN(8.0)])
    ids, logprobs = shared_candidates(logits, 3, 1.0)
    assert ids.tolist() == [3, 1, 2]
    assert np.exp(logprobs) == pytest.approx([8 / 14, 4 / 14, 2 / 14])
    _, colder = shared_candidates(logits, 3, 0.5)
    assert np.exp(colder) == pytest.approx([64 / 84, 16 / 84, 4 / 84])
    ids, coldest = shared_candidates(logits, 9, 0.0)
    assert ids.tolist() == [3, 1, 2, 0]
    assert np.exp(coldest) == pytest.approx([1, 0, 0, 0])
    assert np.isfinite(coldest).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ties_go_to_the_lowest_id(dtype):
    row = torch.zeros(50_000)
    row[[40_000, 7, 777, 30_000]] = 3.0
    row[9] = 5.0
    row = row.to(dtype).float()
    assert best_first(row, 1)[0] == [9]
    assert best_first(row, 2)[0] == [9, 7]
    assert best_first(row, 4)[0] == [9, 7, 777, 30_000]
    assert best_first(row, 7)[0] == [9, 7, 777, 30_000, 40_000, 0, 1]
    assert shared_candidates(row, 3, 0.1)[0].tolist() == [9, 7, 777]
    for seed in range(20):
        random = torch.randn(300, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16).float()
        order = sorted(range(300), key=lambda t, row=random: (-float(row[t]), t))
        for count in (1, 2, 30, 299, 300, 400):
            ((ids, values),) = largest(random[None], count)
            assert ids.tolist() == order[:count]
            assert values.tolist() == [float(random[t]) for t in order[:count]]


def test_impossible_tokens_are_left_out():
    row = torch.full((40,), -torch.inf)
    row[[3, 30]] = torch.tensor([LN(1.0), LN(3.0)])
    ids, logprobs = best_first(row, 5)
    assert ids == [30, 3]
    assert np.exp(logprobs) == pytest.approx([0.75, 0.25])


def test_mixing_excludes_what_the_ngrams_do_not_know():
    shared = np.log([0.5, 0.3, 0.2])
    ngram = np.array([[0.1, 0.0, 0.4], [0.0, 0.0, 0.0], [1.0, 0.25, 0.5]])
    own = [0.75 * LN(p) for p in (0.5, 0.3, 0.2)]
    found = mix(shared, ngram, 0.25, 300.0)
    assert found[0] == pytest.approx([own[0] + 0.25 * LN(0.1), own[1] - 600, own[2] + 0.25 * LN(0.4)])
    assert found[1] == pytest.approx([value - 300 for value in own])
    assert found[2] == pytest.approx([own[0], own[1] + 0.25 * LN(0.25), own[2] + 0.25 * LN(0.5)])
    assert mix(shared, ngram, 1.0, 300.0)[2] == pytest.approx([0, LN(0.25), LN(0.5)])
    for nothing in (mix(shared, None, 0.3, 300.0), mix(shared, ngram, 0.0, 300.0)):
        assert nothing.shape == (1, 3)
        assert nothing[0] == pytest.approx(shared)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 200.0, 1e4])
def test_excluded_tokens_are_behind_whatever_the_penalty(penalty):
    shared = np.log([0.9, 0.099, 0.001])
    ngram = np.array([[0.0, 0.0, 1e-9], [0.0, 0.0, 0.0]])
    found = mix(shared, ngram, 0.5, penalty)
    assert found[0, 2] > found[0, 0] > found[0, 1]
    assert found[1] == pytest.approx(0.5 * shared - penalty)
    assert found[1].min() > found[0, :2].max()


def test_best_children_over_all_drafts():
    scores = np.array([-1.0, -2.0])
    gains = np.array([[-0.5, -3.0], [-0.25, -0.75]])
    assert best_children(scores, gains, 3) == [(0, 0), (1, 0), (1, 1)]
    assert best_children(scores, gains, 9) == [(0, 0), (1, 0), (1, 1), (0, 1)]
    alike = np.array([[-1.0, -1.0, -np.inf]])
    assert best_children(scores, alike, 9) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert best_children(np.array([0.0, 0.0]), alike, 3) == [(0, 0), (0, 1), (1, 0)]


def test_shares_of_drafts():
    assert shares(np.array([LN(3.0), LN(1.0)]) - 5000) == pytest.approx([0.75, 0.25])
    assert shares(np.array([-1e6])) == pytest.approx([1.0])


def test_contexts_reach_into_the_prompt():
    found = contexts((1, 2), [(3,), (3, 4, 5, 6)])
    assert found.tolist() == [[-1, -1, 1, 2, 3], [2, 3, 4, 5, 6]]
