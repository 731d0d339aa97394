"""Penalties, biases and forbidden tokens against transformers' processors, and a plain loop where it has none."""

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)

from palimpsest.lm import Sampling
from palimpsest.lm.constraints.adjustment import Adjustment
from palimpsest.lm.sampling import choose, filtered


class Case:
    """Logits, a prompt, tokens generated after it, and settings; all drawn from one seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.vocab = int(rng.choice([7, 50, 1000]))
        # Rounded logits tie often; a spread of 1e30 leaves float32 once it is penalised.
        spread = float(rng.choice([0.5, 4.0, 1e30]))
        drawn = rng.normal(size=(4, self.vocab)) * spread
        self.logits = torch.tensor(np.round(drawn, 1) if seed % 2 else drawn, dtype=torch.float32)
        self.prompt = rng.integers(0, self.vocab, rng.integers(1, 40)).tolist()
        self.tokens = rng.integers(0, self.vocab, 3).tolist()
        self.eos = sorted({int(rng.integers(self.vocab)), int(rng.integers(self.vocab))})
        self.min_tokens = int(rng.integers(0, 4))
        ids = rng.permutation(self.vocab)[: rng.integers(0, 6)]
        self.bias = tuple((int(i), float(rng.choice([-100.0, -1.5, 0.3, 100.0]))) for i in ids)
        self.penalty = float(rng.choice([1e-6, 0.5, 1.0, 1.3, 1e6]))
        texts = [*self.prompt, *self.tokens]
        words = [tuple(rng.integers(0, self.vocab, rng.integers(1, 4)).tolist()) for _ in range(3)]
        at = int(rng.integers(len(texts)))
        words.append((*texts[max(0, at - 2) : at + 1], int(rng.integers(self.vocab))))
        words.append((*texts[-2:], int(rng.integers(self.vocab))))
        self.words = [w for w in dict.fromkeys(words) if w not in {(e,) for e in self.eos}]

    def processors(self) -> LogitsProcessorList:
        """transformers' own, in the order in which ``generate`` builds them."""
        made = LogitsProcessorList()
        if self.bias:
            made.append(SequenceBiasLogitsProcessor([[[token], bias] for token, bias in self.bias]))
        if self.penalty != 1.0:
            made.append(RepetitionPenaltyLogitsProcessor(self.penalty))
        made.append(NoBadWordsLogitsProcessor([list(w) for w in self.words], self.eos))
        if self.min_tokens:
            made.append(MinNewTokensLengthLogitsProcessor(len(self.prompt), self.min_tokens, self.eos))
        return made

    def sampling(self, **more: float) -> Sampling:
        return Sampling(repetition_penalty=self.penalty, logit_bias=self.bias, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(200))
def test_scores_equal_transformers_processors(seed):
    case, reference = Case(seed), Case(seed).processors()
    ours = Adjustment(case.sampling(), case.prompt, case.min_tokens, case.eos, case.words)
    ids = list(case.prompt)
    for step, row in enumerate(case.logits):
        before = row.clone()
        expected = reference(torch.tensor([ids]), row[None].clone())[0]
        got = ours.apply(row)
        assert torch.equal(got, expected)
        assert torch.equal(row, before)
        if torch.isfinite(expected).any():
            assert choose(row, case.sampling(), 0, step, adjusted=got).id == int(expected.argmax())
        if step < len(case.tokens):
            ours.push(case.tokens[step])
            ids.append(case.tokens[step])


@pytest.mark.parametrize("seed", range(20))
def test_filters_come_after_the_penalties(seed):
    case, reference = Case(seed), Case(seed).processors()
    sampling = case.sampling(temperature=0.7, top_k=4)
    ours = Adjustment(sampling, case.prompt, case.min_tokens, case.eos, case.words)
    reference += [TemperatureLogitsWarper(0.7), TopKLogitsWarper(4)]
    expected = reference(torch.tensor([case.prompt]), case.logits[:1].clone())[0]
    ids, scores = filtered(ours.apply(case.logits[0]), sampling)
    possible = torch.isfinite(scores)
    assert ids[possible].tolist() == torch.isfinite(expected).nonzero().flatten().tolist()
    torch.testing.assert_close(scores[possible], expected[torch.isfinite(expected)])


@pytest.mark.parametrize("seed", range(40))
def test_presence_and_frequency_count_generated_tokens_alone(seed):
    rng = np.random.default_rng(seed)
    vocab, presence, frequency = 30, float(rng.uniform(-2, 2)), float(rng.uniform(-2, 2))
    tokens, prompt = rng.integers(0, vocab, 25).tolist(), rng.integers(0, vocab, 10).tolist()
    ours = Adjustment(Sampling(presence_penalty=presence, frequency_penalty=frequency), prompt)
    for step, token in enumerate(tokens):
        logits = rng.normal(size=vocab).astype(np.float32)
        expected = logits.astype(np.float64)
        for i in range(vocab):
            count = tokens[:step].count(i)
            if count:
                expected[i] = logits[i] - frequency * count - presence
        np.testing.assert_allclose(ours.apply(torch.tensor(logits)).numpy(), expected, rtol=1e-5, atol=1e-5)
        ours.push(token)


def test_presence_and_frequency_come_after_repetition_and_bias():
    sampling = Sampling(
        repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((1, 1.0),)
    )
    ours = Adjustment(sampling, [0])
    ours.push(1)
    ours.push(1)
    got = ours.apply(torch.tensor([-3.0, 3.0, 5.0]))
    assert got.tolist() == [-6.0, (3.0 + 1.0) / 2 - 0.25 * 2 - 0.5, 5.0]


def test_a_forbidden_token_is_never_drawn():
    logits = torch.zeros(40)
    ours = Adjustment(Sampling(temperature=100.0), [0], bad_words=[(i,) for i in range(39)])
    for seed in range(200):
        sampling = Sampling(temperature=100.0, seed=seed)
        assert choose(logits, sampling, 0, 0, adjusted=ours.apply(logits)).id == 39


def test_log_probabilities_are_of_the_model_not_of_the_penalties():
    logits = torch.tensor([2.0, 1.0, 0.0])
    ours = Adjustment(Sampling(logit_bias=((2, 100.0),)), [0])
    found = choose(logits, Sampling(), 0, 0, top=1, adjusted=ours.apply(logits))
    assert found.id == 2
    assert found.logprob == pytest.approx(float(torch.log_softmax(logits, 0)[2]), abs=1e-6)
    assert found.top[0][0] == 0


def test_neutral_settings_change_nothing():
    assert not Sampling(0.8, 40, 0.9, 0.1, seed=5).adjusts
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Adjustment(Sampling(), [1, 2, 3]).apply(logits), logits)
