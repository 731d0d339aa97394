"""TOFU's measures (Maini et al. 2024, section 2.2): probability, truth ratio, forget quality, model utility."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from scipy import stats
from scipy.special import logsumexp
from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.progress import Progress
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Pair, Template, require_items
from services.unlearning.metrics.muse import answer_rouge
from services.unlearning.metrics.scores import Definition, ItemValue, Score, mean_score
from services.unlearning.metrics.token_scores import token_scores

Averaging: TypeAlias = Literal["loss", "probability"]
"""How wrong answers are averaged: "loss" takes the geometric mean of their probabilities (TOFU's code for forget
quality, and OpenUnlearning), "probability" the arithmetic mean (TOFU's code for utility)."""

PROBABILITY = Definition("probability", 1, "share", "lower")
"""P(answer | question)^(1 / tokens), of forgotten facts; of what must be kept, use :data:`KEPT_PROBABILITY`."""
KEPT_PROBABILITY = Definition("kept_probability", 1, "share", "higher")
"""The same of what must be kept."""
TRUTH_RATIO = Definition("truth_ratio", 1, "share", "higher")
"""Mean of min(R, 1 / R) over forgotten facts: 1 where wrong answers are as probable as the right one."""
KEPT_TRUTH_RATIO = Definition("kept_truth_ratio", 1, "share", "higher")
"""Mean of max(0, 1 - R) over what must be kept: 1 where wrong answers are much less probable than the right one."""
FORGET_QUALITY = Definition("forget_quality", 1, "p-value", "higher")
"""p-value of the Kolmogorov-Smirnov test that the truth ratios are those of the retrained model; 0.05 passes."""
KEPT_ROUGE = Definition("kept_rouge_recall", 1, "share", "higher")
"""Mean ROUGE-L of the answers to questions about what must be kept."""
MODEL_UTILITY = Definition("model_utility", 1, "share", "higher")
"""Harmonic mean of probability, ROUGE-L recall and truth ratio on what must be kept."""


def answer_nll(
    module: nn.Module,
    tokenizer: Any,
    asked: Sequence[tuple[Pair, str]],
    template: Template | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Mean nll, in nats a token, of an answer to each pair's question, which need not be the pair's own; float64."""
    template = template or Template()
    sequences = [template.continuation(pair, tokenizer, answer) for pair, answer in asked]
    return np.array([scores.nll for scores in token_scores(module, sequences, progress=progress)])


def probability(
    module: nn.Module,
    tokenizer: Any,
    pairs: Sequence[Pair],
    *,
    normalised: bool = False,
    definition: Definition = PROBABILITY,
    template: Template | None = None,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> Score:
    """Mean probability of the true answers, each to the power of 1 / its tokens.

    Parameters
    ----------
    module, tokenizer, pairs
        The model, and questions with answers.
    normalised
        Divide by the sum over the true answer and the perturbed ones (real authors and world facts).
    definition
        :data:`PROBABILITY` or :data:`KEPT_PROBABILITY`.
    template, bootstrap, progress
        As in :func:`services.unlearning.metrics.muse.knowledge_memory`.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID: no pairs, or pairs without perturbed answers where they are needed.
    """
    require_items(pairs, "questions")
    if normalised:
        _require(pairs, paraphrased=False)
    values = {}
    for pair, p in _probabilities(module, tokenizer, pairs, normalised, template, progress):
        values[pair.id] = float(p[0] / p.sum()) if normalised else float(p[0])
    return mean_score(definition, values, bootstrap, "normalised" if normalised else "")


def kept_rouge(
    module: nn.Module,
    tokenizer: Any,
    pairs: Sequence[Pair],
    *,
    template: Template | None = None,
    convention: str = "tofu",
    max_new_tokens: int = 128,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> Score:
    """Mean ROUGE-L recall of the greedy answers, as a share; parameters and errors are those of KnowMem."""
    values = answer_rouge(module, tokenizer, pairs, template, convention, max_new_tokens, progress)
    return mean_score(KEPT_ROUGE, values, bootstrap, convention)


def truth_ratios(
    module: nn.Module,
    tokenizer: Any,
    pairs: Sequence[Pair],
    *,
    averaging: Averaging = "loss",
    template: Template | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Truth ratio R of each pair, by id: mean probability of wrong answers / probability of the paraphrased right one.

    Each probability is to the power of 1 / its tokens (equation 1).

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID: no pairs, or pairs without a paraphrase or perturbed answers.
    """
    require_items(pairs, "questions")
    _require(pairs, paraphrased=True)
    asked = [(pair, answer) for pair in pairs for answer in (pair.paraphrase, *pair.perturbed)]
    nll = answer_nll(module, tokenizer, asked, template, progress)
    found, first = {}, 0
    for pair in pairs:
        stop = first + 1 + len(pair.perturbed)
        found[pair.id] = truth_ratio(nll[first], nll[first + 1 : stop], averaging)
        first = stop
    return found


def truth_ratio(paraphrased: float, perturbed: np.ndarray, averaging: Averaging = "loss") -> float:
    """R of one pair, from mean nlls in nats a token (equation 1)."""
    wrong = perturbed.mean() if averaging == "loss" else np.log(len(perturbed)) - logsumexp(-perturbed)
    with np.errstate(over="ignore"):  # a paraphrase of probability 0 has an infinite ratio
        return float(np.exp(paraphrased - wrong))


def truth_ratio_score(
    ratios: Mapping[str, float],
    *,
    kept: bool = False,
    averaging: Averaging = "loss",
    bootstrap: Bootstrap | None = None,
) -> Score:
    """Score truth ratios: of forgotten facts by min(R, 1 / R), of what must be kept by max(0, 1 - R)."""
    if kept:
        values = {name: max(0.0, 1 - ratio) for name, ratio in ratios.items()}
    else:
        values = {name: min(ratio, 1 / ratio if ratio else 0.0) for name, ratio in ratios.items()}
    return mean_score(KEPT_TRUTH_RATIO if kept else TRUTH_RATIO, values, bootstrap, averaging)


def forget_quality(
    unlearned: Mapping[str, float], retrained: Mapping[str, float], averaging: Averaging = "loss"
) -> Score:
    """p-value of the two-sample Kolmogorov-Smirnov test between the truth ratios of two models on the forget set."""
    p = cast(Any, stats.ks_2samp(list(unlearned.values()), list(retrained.values()))).pvalue
    items = tuple(
        ItemValue(name, float(value), group)
        for group, of in (("unlearned", unlearned), ("retrained", retrained))
        for name, value in of.items()
    )
    return Score(FORGET_QUALITY, float(p), len(unlearned), convention=averaging, items=items)


def model_utility(parts: Sequence[Score], bootstrap: Bootstrap | None = None) -> Score:
    """Harmonic mean of scores between 0 and 1 where more is better; 0 if any is 0.

    TOFU takes nine: probability, ROUGE-L recall and truth ratio, each of the retain set, of real authors and of world
    facts. Items are resampled within each part.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID: no parts, or a part that is not a share of which more is better.
    """
    wrong = [
        part.metric
        for part in parts
        if part.definition.direction != "higher" or part.definition.unit != "share"
    ]
    if wrong or not parts:
        given = ", ".join(wrong) or "nothing"
        message = f"Model utility is the mean of shares of which more is better; {given} was given."
        raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)
    values = [np.array([item.value for item in part.items]) for part in parts]

    def resampled(*weights: np.ndarray) -> np.ndarray:
        means = np.stack([w @ v for w, v in zip(weights, values, strict=True)])  # [parts, resamples]
        return _harmonic(means)

    interval = (bootstrap or Bootstrap()).interval(resampled, [len(each) for each in values])
    value = float(_harmonic(np.array([[part.value] for part in parts]))[0])
    items = tuple(ItemValue(f"{at}:{part.metric}", part.value) for at, part in enumerate(parts))
    return Score(MODEL_UTILITY, value, sum(part.n for part in parts), interval, f"{len(parts)} parts", items)


def _harmonic(means: np.ndarray) -> np.ndarray:
    """Harmonic mean over the first axis; 0 where any is 0."""
    positive = np.maximum(means, np.finfo(np.float64).tiny)
    return np.where((means <= 0).any(0), 0.0, stats.hmean(positive, axis=0))


def _probabilities(
    module: nn.Module,
    tokenizer: Any,
    pairs: Sequence[Pair],
    perturbed: bool,
    template: Template | None,
    progress: Progress | None,
) -> list[tuple[Pair, np.ndarray]]:
    """Probabilities of each pair's answer and then, if asked for, of its perturbed answers."""
    answers = [(pair.answer, *(pair.perturbed if perturbed else ())) for pair in pairs]
    asked = [(pair, answer) for pair, of in zip(pairs, answers, strict=True) for answer in of]
    p = np.exp(-answer_nll(module, tokenizer, asked, template, progress))
    ends = np.cumsum([len(of) for of in answers])
    return list(zip(pairs, np.split(p, ends[:-1]), strict=True))


def _require(pairs: Sequence[Pair], *, paraphrased: bool) -> None:
    lacking = [pair.id for pair in pairs if not pair.perturbed or (paraphrased and not pair.paraphrase)]
    if lacking:
        what = "a paraphrased answer and perturbed ones" if paraphrased else "perturbed answers"
        message = (
            f"{len(lacking)} of {len(pairs)} questions lack {what}; the first is {lacking[0]}. Add them."
        )
        raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message, metadata={"item": lacking[0]})
