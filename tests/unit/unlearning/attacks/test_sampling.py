"""Sampling: the distribution is the model's own, the best of several samples counts, seeds decide."""

import numpy as np
import pytest
import torch

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


def test_many_samples_find_what_greedy_decoding_hides(target, retrained):
    # A bias on the head that hides half of what is known from the likeliest token, but not from every sample.
    hidden = knowing.hidden(target, size=4.0)

    def greedy(module):
        with torch.no_grad():
            rows = [
                module.generate(torch.tensor([p]), max_new_tokens=14, do_sample=False)[0, 2:].tolist()
                for p in PROMPTS
            ]
        return {"em": np.array([share(n, row) for n, row in enumerate(rows)])}

    attack = sampling(PROMPTS, share, "em", tokens=14, samples=8)
    models = [attack_model(module, greedy, [attack]) for module in (hidden, retrained)]
    (row,) = table([attack], [Metric("em", 10.0)], models[0], [models[1]], models[1])
    assert row.attack == "sampling/8"
    assert row.retrained[0] > 0  # luck alone gains something, and is subtracted
    assert row.injected == row.retrained[0]
    assert row.net.value == pytest.approx(row.gain.value - row.injected)


@pytest.mark.parametrize("broken", [{"samples": 0}, {"tokens": 0}, {"temperature": 0.0}, {"prompts": [()]}])
def test_settings_that_sample_nothing(broken):
    given = {"prompts": PROMPTS, "tokens": 3} | broken
    with pytest.raises(InvalidArgument):
        sampling(given.pop("prompts"), share, "em", **given)
