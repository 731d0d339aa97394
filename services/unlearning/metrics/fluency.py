"""Whether a model still writes: perplexity on generic text, repetition and variety of what it generates.

A collapsed model remembers nothing and leaks nothing. These tell it from one that has forgotten.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from palimpsest.progress import Progress
from services.unlearning.metrics.generation import eos_ids_of, greedy
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Prompt, Text, continuations, require_items
from services.unlearning.metrics.scores import Definition, ItemValue, Score, mean_score
from services.unlearning.metrics.token_scores import token_scores

PERPLEXITY = Definition("perplexity", 1, "perplexity", "lower")
"""exp of the mean nll over all tokens of generic texts."""
REPETITION = Definition("repetition", 1, "share", "lower")
"""Mean share of a continuation's n-grams that it has had before (n = 4)."""

REPEATED = 4
"""Length of the n-grams whose repetition is counted."""
DISTINCT = (1, 2, 3)
"""Lengths of the n-grams that are counted by :func:`distinct`."""


def perplexity(
    module: nn.Module,
    tokenizer: Any,
    texts: Sequence[Text],
    *,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> Score:
    """Perplexity, each token counting the same; its items are the texts' own perplexities.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID, PROMPT_TOO_LONG.
    FailedPrecondition
        METRIC_NOT_FINITE.
    """
    require_items(texts, "texts")
    scored = token_scores(module, continuations(texts, tokenizer), progress=progress)
    sums = np.array([-scores.logprobs.sum() for scores in scored])
    tokens = np.array([len(scores.logprobs) for scores in scored])
    with np.errstate(over="ignore"):
        # the interval of the mean nll, and then exp: an infinite perplexity would have no percentiles
        interval = (bootstrap or Bootstrap()).interval(lambda w: (w @ sums) / (w @ tokens), [len(texts)])
        items = tuple(
            ItemValue(text.id, float(np.exp(scores.nll))) for text, scores in zip(texts, scored, strict=True)
        )
        return Score(
            PERPLEXITY,
            float(np.exp(sums.sum() / tokens.sum())),
            len(texts),
            interval and (float(np.exp(interval[0])), float(np.exp(interval[1]))),
            items=items,
        )


def repetition(tokens: Sequence[int], n: int = REPEATED) -> float:
    """Share of a sequence's n-grams that it has had before; 0 where it is shorter than n."""
    grams = _grams(tokens, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(sequences: Sequence[Sequence[int]], n: int) -> float:
    """Number of different n-grams in all sequences, relative to the number of n-grams; 0 where there are none."""
    counted = Counter(gram for tokens in sequences for gram in _grams(tokens, n))
    return len(counted) / counted.total() if counted else 0.0


def fluency(
    module: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 64,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> list[Score]:
    """Repetition and the shares of distinct n-grams of greedy continuations, in tokens.

    The true continuations have a repetition and a share of their own, so compare with another model's over the same
    prompts and the same ``max_new_tokens``.
    """
    require_items(prompts, "prompts")
    new = greedy(
        module,
        [prompt.prompt_ids(tokenizer) for prompt in prompts],
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids_of(module, tokenizer),
        progress=progress,
    )
    values = {prompt.id: repetition(tokens) for prompt, tokens in zip(prompts, new, strict=True)}
    return [
        mean_score(REPETITION, values, bootstrap, f"{REPEATED}-grams"),
        *(
            Score(Definition(f"distinct_{n}", 1, "share", "higher"), distinct(new, n), len(prompts))
            for n in DISTINCT
        ),
    ]


def _grams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
