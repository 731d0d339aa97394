"""Extraction strength and exact memorisation: what a model would recite, by teacher forcing alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from palimpsest.progress import Progress
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Pair, Prompt, Template, Text, continuations, require_items
from services.unlearning.metrics.scores import Definition, Score, mean_score
from services.unlearning.metrics.token_scores import token_scores

EXTRACTION = Definition("extraction_strength", 1, "share", "lower")
"""1 - k / n, where after the first k of n tokens the model predicts all others (Carlini et al. 2021)."""
EXACT = Definition("exact_memorisation", 1, "share", "lower")
"""Share of the tokens that the model predicts, given the true ones before (Tirumala et al. 2022)."""


def extraction_strength(correct: np.ndarray) -> float:
    """Share of the tokens at the end that are all predicted.

    Parameters
    ----------
    correct
        bool [tokens], at least one.

    Returns
    -------
    float
        0 to 1; 0 where even the last token is not predicted. OpenUnlearning's code gives 1 / n there.
    """
    wrong = np.flatnonzero(~correct)
    return float((len(correct) - wrong[-1] - 1) / len(correct)) if len(wrong) else 1.0


def exact_memorisation(correct: np.ndarray) -> float:
    """Share of the tokens that are predicted; ``correct`` is bool [tokens], at least one."""
    return float(correct.mean())


def extraction_scores(
    module: nn.Module,
    tokenizer: Any,
    items: Sequence[Text | Prompt | Pair],
    *,
    template: Template | None = None,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> tuple[Score, Score]:
    """Extraction strength and exact memorisation of one model, from the same passes.

    Parameters
    ----------
    module, tokenizer
        The model.
    items
        Of a text, all tokens but the first are scored; of a prompt, the truth; of a pair, the answer.
    template
        How questions are put; None for the usual one.
    bootstrap, progress
        As in :func:`services.unlearning.metrics.muse.verbatim_memory`.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID, PROMPT_TOO_LONG.
    FailedPrecondition
        METRIC_NOT_FINITE.
    """
    require_items(items, "items")
    sequences = continuations(items, tokenizer, template)
    scored = token_scores(module, sequences, progress=progress)
    of = {sequence.id: scores.correct for sequence, scores in zip(sequences, scored, strict=True)}
    return (
        mean_score(EXTRACTION, {name: extraction_strength(each) for name, each in of.items()}, bootstrap),
        mean_score(EXACT, {name: exact_memorisation(each) for name, each in of.items()}, bootstrap),
    )
