"""Sampling: the distribution is the model's own, the best of several samples counts, seeds decide."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from palimpsest.errors import InvalidArgument
from services.unlearning.attacks import Metric, attack_model, sampling, table
from services.unlearning.attacks.sampling import sample
from tests.unit.unlearning import knowing

PROMPTS = [example.ids[:2] for example in knowing.FORGET]


def share(position, continuation):
    """Share of the true tokens at their places, in points of 100."""
    truth = knowing.FORGET[position].ids[2:]
    return 100 * sum(a == b for a, b in zip(continuation, truth, strict=False)) / len(truth)


def test_samples_are_drawn_from_the_models_distribution(never_knew):
    prompt = (5, 9, 33)
    found = sample(never_knew, prompt, samples=4000, tokens=2, temperature=2.0, seed=1)
    with torch.no_grad():
        expected = (never_knew(input_ids=torch.tensor([prompt])).logits[0, -1] / 2.0).softmax(-1).numpy()
    counted = np.bincount([row[0] for row in found], minlength=knowing.VOCABULARY) / len(found)
    assert np.abs(counted - expected).max() < 4 * 0.5 / np.sqrt(
        len(found)
    )  # four standard errors at the most
    # The second token follows the first one drawn: against a pass without a cache.
    token = max({row[0] for row in found}, key=[row[0] for row in found].count)
    after = [row[1] for row in found if row[0] == token]
    with torch.no_grad():
        logits = never_knew(input_ids=torch.tensor([[*prompt, token]])).logits[0, -1]
    expected = (logits / 2.0).softmax(-1).numpy()
    counted = np.bincount(after, minlength=knowing.VOCABULARY) / len(after)
    assert np.abs(counted - expected).max() < 4 * 0.5 / np.sqrt(len(after))


def test_seeds_decide_and_stop_tokens_end(target):
    first = sample(target, (5,), samples=3, tokens=6, temperature=5.0, seed=1)
    assert first == sample(target, (5,), samples=3, tokens=6, temperature=5.0, seed=1)
    assert first != sample(target, (5,), samples=3, tokens=6, temperature=5.0, seed=2)
    stop = first[0][2]
    ended = sample(target, (5,), samples=3, tokens=6, temperature=5.0, seed=1, stop=[stop])
    assert ended == [row[: row.index(stop)] if stop in row else row for row in first]


class Wavers(nn.Module):
    """Says what it knows with the second greatest probability, one in five times: greedy decoding never does."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, **options):
        output = self.model(input_ids=input_ids, **options)
        known = output.logits[:, -1:].argmax(-1, keepdim=True)
        logits = torch.full_like(output.logits, -30.0).scatter(
            -1, known.expand(*output.logits.shape[:2], 1), 0.0
        )
        logits[..., 0] = math.log(4.0)
        output.logits = logits
        return output


def test_one_in_several_samples_says_what_greedy_decoding_hides(target, retrained, never_knew):
    def greedy(module):
        rows = [sample(module, p, samples=1, tokens=1, temperature=1e-3)[0] for p in PROMPTS]
        return {"em": np.array([100.0 * (row[0] == knowing.FORGET[n].ids[2]) for n, row in enumerate(rows)])}

    def first(position, continuation):
        return 100.0 * (continuation[0] == knowing.FORGET[position].ids[2])

    attack = sampling(PROMPTS, first, "em", tokens=1)
    models = [Wavers(target), Wavers(retrained), Wavers(never_knew)]
    found = [attack_model(module, greedy, [attack]) for module in models]
    (row,) = table([attack], [Metric("em", 10.0)], found[0], [found[1]], found[2])
    assert row.attack == "sampling/16"
    assert row.before == 0.0
    assert row.after > 80.0  # each of eight items is missed by all samples with 0.8 ** 16 = 0.03
    assert row.recovered
    assert row.tolerated is False


def test_luck_alone_gains_something_and_is_subtracted(retrained, never_knew):
    def none(module):
        return {"em": np.zeros(len(PROMPTS))}

    attack = sampling(PROMPTS, share, "em", tokens=14)
    found = [attack_model(module, none, [attack]) for module in (retrained, never_knew)]
    (row,) = table([attack], [Metric("em", 10.0)], found[0], [found[1]], found[1])
    assert row.injected is not None
    assert row.injected > 0
    assert row.net.value == pytest.approx(row.gain.value - row.injected)
    assert not row.recovered
    assert row.tolerated


@pytest.mark.parametrize("broken", [{"samples": 0}, {"tokens": 0}, {"temperature": 0.0}, {"prompts": [()]}])
def test_settings_that_sample_nothing(broken):
    given = {"prompts": PROMPTS, "tokens": 3} | broken
    with pytest.raises(InvalidArgument):
        sampling(given.pop("prompts"), share, "em", **given)
