"""Sampling against transformers' processors, and its random stream."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from palimpsest.lm import Sampling
from palimpsest.lm.sampling import COLDEST, choose, filtered, uniform


def warped(logits: torch.Tensor, s: Sampling) -> torch.Tensor:
    processors = LogitsProcessorList([TemperatureLogitsWarper(s.temperature)])
    if s.top_k:
        processors.append(TopKLogitsWarper(s.top_k))
    if s.top_p < 1.0:
        processors.append(TopPLogitsWarper(s.top_p))
    if s.min_p > 0.0:
        processors.append(MinPLogitsWarper(s.min_p))
    return processors(torch.zeros(1, 1, dtype=torch.long), logits[None])[0]


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocab=st.sampled_from([5, 300, 3000]),
    spread=st.sampled_from([0.5, 3.0, 10.0]),
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 50),
    top_p=st.floats(0.05, 1),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 0.9)),
)
def test_the_tokens_that_stay_are_transformers(seed, vocab, spread, temperature, top_k, top_p, min_p):
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * spread
    sampling = Sampling(temperature, min(top_k, vocab), top_p, min_p)
    ids, scores = filtered(logits, sampling)
    reference = warped(logits, sampling)
    kept = torch.isfinite(reference)
    differ = set(ids.tolist()) ^ set(kept.nonzero().flatten().tolist())
    # transformers adds float32 probabilities: at the very edge of top_p a token may fall either way.
    assert sampling.top_p < 1.0 or not differ
    if differ:
        cut = warped(logits, Sampling(temperature, min(top_k, vocab)))
        order = torch.argsort(cut, descending=True, stable=True)
        before = (
            torch.softmax(cut[order].double(), 0).cumsum(0).roll(1)
        )  # exact mass of the tokens before each
        before[0] = 0.0
        edge = dict(zip(order.tolist(), before.tolist(), strict=True))
        assert all(abs(edge[token] - top_p) < 1e-5 for token in differ)
    if not differ:
        torch.testing.assert_close(scores, reference[kept])
        assert ids.tolist() == sorted(ids.tolist())


def test_ties_at_the_edge_of_top_k_stay_together():
    logits = torch.tensor([1.0, 3.0, 2.0, 2.0, 2.0])
    sampling = Sampling(1.0, top_k=2)
    assert filtered(logits, sampling)[0].tolist() == [1, 2, 3, 4]
    assert torch.isfinite(warped(logits, sampling)).sum() == 4


def test_greedy_takes_the_lowest_id_on_ties():
    logits = torch.zeros(1000)
    logits[[700, 20, 300]] = 5.0
    assert choose(logits, Sampling(), 0, 0).id == 20


def test_log_probabilities_are_the_models_own():
    logits = torch.randn(500, generator=torch.Generator().manual_seed(3))
    reference = torch.log_softmax(logits, 0)
    choice = choose(logits, Sampling(0.3, top_k=5, seed=7), 0, 0, top=4)
    assert choice.logprob == pytest.approx(reference[choice.id].item(), abs=1e-5)
    best = torch.topk(reference, 4)
    assert [i for i, _ in choice.top] == best.indices.tolist()
    assert [p for _, p in choice.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([0.5, 0.25, 0.15, 0.1]))
    draws = [choose(logits, Sampling(1.0, seed=11), 0, step).id for step in range(4000)]
    counts = np.bincount(draws, minlength=4)
    assert stats.chisquare(counts, np.array([0.5, 0.25, 0.15, 0.1]) * 4000).pvalue > 1e-3


def test_the_random_stream_is_counted():
    numbers = {(s, i, t): uniform(s, i, t) for s in (0, 1, 2**64 - 1) for i in (0, 1) for t in range(50)}
    assert len(set(numbers.values())) == len(numbers)
    assert all(0 <= u < 1 for u in numbers.values())
    assert uniform(1, 1, 7) == numbers[1, 1, 7]
    assert stats.kstest([uniform(5, 0, t) for t in range(2000)], "uniform").pvalue > 1e-3


def test_extreme_settings_still_choose():
    logits = torch.randn(100, generator=torch.Generator().manual_seed(1)) * 20
    best = int(logits.argmax())
    assert choose(logits, Sampling(1e-6, seed=1), 0, 0).id == best
    assert choose(logits, Sampling(100.0, top_p=1e-9, seed=1), 0, 0).id == best
    assert choose(logits, Sampling(1.0, min_p=1.0, seed=1), 0, 0).id == best
    logits[3] = float("-inf")
    assert all(choose(logits, Sampling(100.0, seed=s), 0, 0).id != 3 for s in range(300))


@pytest.mark.parametrize("temperature", [1e-308, 5e-324, 1e-45, 1e-21])
def test_a_temperature_that_would_leave_float32_is_greedy(temperature):
    assert Sampling(temperature) == Sampling(0.0)


@pytest.mark.parametrize("spread", [1.0, 1e3, 1e8])
def test_the_coldest_temperature_chooses_what_greedy_chooses(spread):
    for seed in range(50):
        logits = torch.randn(300, generator=torch.Generator().manual_seed(seed)) * spread
        found = choose(logits, Sampling(COLDEST, seed=seed), 0, 0)
        assert found == choose(logits, Sampling(), 0, 0)
        assert np.isfinite(found.logprob)
