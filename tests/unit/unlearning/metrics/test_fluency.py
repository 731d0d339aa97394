import numpy as np
import pytest
import torch

from services.unlearning.metrics.fluency import distinct, fluency, perplexity, repetition
from services.unlearning.metrics.generation import greedy
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Prompt, Text

TEXTS = [
    Text("a", "the quick brown fox"),
    Text("b", "every kind of test shares a scratch folder and two models"),
]


def test_every_token_counts_the_same_in_perplexity(module, tokenizer):
    score = perplexity(module, tokenizer, TEXTS, bootstrap=Bootstrap(resamples=500))
    total, tokens = 0.0, 0
    for text, item in zip(TEXTS, score.items, strict=True):
        ids = torch.tensor([tokenizer.encode(text.text)])
        with torch.no_grad():
            loss = module(ids, labels=ids).loss.item()
        assert item.value == pytest.approx(np.exp(loss), rel=1e-4)
        total, tokens = total + loss * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    assert score.value == pytest.approx(np.exp(total / tokens), rel=1e-4)
    assert score.interval == pytest.approx(sorted(item.value for item in score.items))


@pytest.mark.parametrize(
    ("tokens", "share"),
    [([1, 2, 3, 4, 5], 0.0), ([1] * 8, 0.8), ([1, 2, 3, 4, 1, 2, 3, 4], 0.2), ([1, 1, 1], 0.0), ([], 0.0)],
)
def test_repetition_by_hand(tokens, share):
    assert repetition(tokens) == pytest.approx(share)


def test_distinct_counts_over_all_sequences():
    assert distinct([[1, 2, 1], [1, 3]], 1) == pytest.approx(3 / 5)
    assert distinct([[1, 2, 1], [1, 2]], 2) == pytest.approx(2 / 3)
    assert distinct([[1], []], 2) == 0


def test_fluency_is_of_greedy_continuations(module, tokenizer):
    starts = ["the quick", "two models", "every kind of"]
    prompts = [Prompt(start, start, "") for start in starts]
    found = {
        s.metric: s for s in fluency(module, tokenizer, prompts, max_new_tokens=24, bootstrap=Bootstrap(0))
    }
    new = greedy(module, [tokenizer.encode(start) for start in starts], max_new_tokens=24, eos_ids=[0])
    assert found["repetition"].value == pytest.approx(np.mean([repetition(tokens) for tokens in new]))
    assert found["distinct_2"].value == pytest.approx(distinct(new, 2))
    assert set(found) == {"repetition", "distinct_1", "distinct_2", "distinct_3"}
