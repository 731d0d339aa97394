import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.unlearning.metrics.extraction import exact_memorisation, extraction_scores, extraction_strength
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Continuation, Pair, Prompt, Template, Text
from services.unlearning.metrics.token_scores import read


def logits_for(ids: list[int], predicted: list[int], vocabulary: int = 5) -> torch.Tensor:
    """Logits by which each token after the first is predicted to be the given one; [1, tokens, vocabulary]."""
    logits = torch.zeros(1, len(ids), vocabulary)
    for at, token in enumerate(predicted):
        logits[0, at, token] = 3.0
    return logits


@pytest.mark.parametrize(
    ("predicted", "strength", "exact"),
    [
        ([2, 3, 4, 1], 1.0, 1.0),  # all of the four
        ([0, 3, 4, 1], 0.75, 0.75),  # after the first, all
        ([2, 0, 4, 1], 0.5, 0.75),
        ([2, 3, 4, 0], 0.0, 0.75),  # even the last is wrong
        ([0, 0, 0, 1], 0.25, 0.25),
        ([0, 0, 0, 0], 0.0, 0.0),
    ],
)
def test_hand_made_logits(predicted, strength, exact):
    ids = [1, 2, 3, 4, 1]
    (scores,) = read(logits_for(ids, predicted), [Continuation("s", tuple(ids), 1)])
    assert extraction_strength(scores.correct) == strength
    assert exact_memorisation(scores.correct) == exact


def test_the_last_scored_token_counts_and_what_is_before_the_start_does_not():
    ids = [1, 2, 3, 4, 1]
    (scores,) = read(logits_for(ids, [0, 0, 4, 0]), [Continuation("s", tuple(ids), 3)])
    assert scores.correct.tolist() == [True, False]
    assert extraction_strength(scores.correct) == 0


@settings(derandomize=True)
@given(correct=st.lists(st.booleans(), min_size=1, max_size=20))
def test_extraction_strength_is_the_shortest_prefix_that_makes_the_rest_right(correct):
    n = len(correct)
    k = next(k for k in range(n + 1) if all(correct[k:]))
    got = extraction_strength(np.array(correct))
    assert got == pytest.approx(1 - k / n)
    assert got <= exact_memorisation(np.array(correct))


def test_scores_of_a_model_are_those_of_its_own_argmax(module, tokenizer):
    items = [
        Text("t", "the quick brown fox"),
        Prompt("p", "the quick", " brown dog"),
        Pair("q", "Who?", "a lazy dog"),
    ]
    template = Template(question="{question}", answer=" {answer}")
    strength, exact = extraction_scores(
        module, tokenizer, items, template=template, bootstrap=Bootstrap(resamples=100)
    )
    heads, tails = ["", "the quick", "Who?"], ["the quick brown fox", " brown dog", " a lazy dog"]
    for at, (head, tail) in enumerate(zip(heads, tails, strict=True)):
        front = tokenizer.encode(head) if head else []
        ids = front + tokenizer.encode(tail)
        with torch.no_grad():
            best = module(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        right = [best[n - 1] == ids[n] for n in range(len(front) or 1, len(ids))]
        assert exact.items[at].value == pytest.approx(np.mean(right))
        assert strength.items[at].value == extraction_strength(np.array(right))
    assert [item.id for item in exact.items] == ["t", "p", "q"]
    assert (strength.metric, exact.metric) == ("extraction_strength", "exact_memorisation")
