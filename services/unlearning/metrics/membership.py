"""Membership inference: does the model show which texts it was trained on?

Every attack gives a text a number that is higher the more the text looks like one the model was trained on. How well
the numbers tell the forget set from a holdout that no model has seen is an area under the ROC curve, in MUSE's
orientation: 0 where every forgotten text looks more familiar than every held-out one, 1/2 where nothing can be told,
1 where the forget set looks stranger than text never seen, which gives a removal away as surely.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score
from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.progress import Progress
from services.unlearning.metrics.intervals import Bootstrap, Weights
from services.unlearning.metrics.items import Text, continuations, require_items
from services.unlearning.metrics.scores import Definition, ItemValue, Score
from services.unlearning.metrics.token_scores import TokenScores, token_scores

ATTACKS = ("min_k", "min_k_plus_plus", "loss", "zlib", "lowercase")
"""Names of the attacks."""

MIN_K = 0.4
"""Share of the tokens that Min-K% looks at, where MUSE looks (appendix B)."""

_LEAST_DEVIATION = 1e-3
"""Floor of Min-K%++'s standard deviation, for positions where the model is certain."""


@dataclass(frozen=True)
class Membership:
    """One attack's numbers for two sets of texts; higher is more like a member.

    Attributes
    ----------
    attack
        Its name.
    forget, holdout
        By id of the text.
    """

    attack: str
    forget: Mapping[str, float]
    holdout: Mapping[str, float]


def lowest(values: np.ndarray, k: float) -> float:
    """Mean of the lowest share ``k`` of values, of at least one."""
    return float(np.sort(values)[: max(1, int(len(values) * k))].mean())


def min_k(scores: TokenScores, k: float = MIN_K) -> float:
    """Mean log-probability of the least probable tokens (Shi et al. 2024, equation 1)."""
    return lowest(scores.logprobs, k)


def min_k_plus_plus(scores: TokenScores, k: float = MIN_K) -> float:
    """Mean of the lowest standardised log-probabilities (Zhang et al. 2024, equation 3)."""
    return lowest((scores.logprobs - scores.mean) / np.maximum(scores.deviation, _LEAST_DEVIATION), k)


def zlib_ratio(scores: TokenScores, text: str) -> float:
    """Negated mean nll for each byte of the compressed text (Carlini et al. 2021, section 5.2; MUSE's "PPL/zlib")."""
    return -scores.nll / len(zlib.compress(text.encode()))


def lowercase_ratio(scores: TokenScores, lower: TokenScores) -> float:
    """Negated mean nll, relative to that of the text in lower case (MUSE's "PPL/lower")."""
    return -scores.nll / max(lower.nll, 1e-12)


def membership(
    module: nn.Module,
    tokenizer: Any,
    forget: Sequence[Text],
    holdout: Sequence[Text],
    *,
    attacks: Sequence[str] = ("min_k",),
    k: float = MIN_K,
    progress: Progress | None = None,
) -> dict[str, Membership]:
    """Run attacks on two sets of texts.

    Parameters
    ----------
    module, tokenizer
        The attacked model.
    forget, holdout
        Whole texts, of the same distribution and of like lengths: length alone would tell sets apart that differ in it.
    attacks
        Some of :data:`ATTACKS`.
    k
        Share of the tokens, for Min-K% and Min-K%++.
    progress
        Asked before every pass whether to go on.

    Returns
    -------
    dict
        By name of the attack.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID: no texts, or token ids where an attack needs characters. METRIC_CONVENTION_UNKNOWN: no
        such attack.
    """
    unknown = set(attacks) - set(ATTACKS)
    if unknown:
        message = f"There is no attack {', '.join(sorted(unknown))}. Use some of {', '.join(ATTACKS)}."
        raise InvalidArgument(Reason.METRIC_CONVENTION_UNKNOWN, message)
    require_items(forget, "texts to forget")
    require_items(holdout, "held-out texts")
    texts = [*forget, *holdout]
    scored = token_scores(module, continuations(texts, tokenizer), progress=progress)
    lowered = []
    if "lowercase" in attacks:
        lower = [Text(text.id, _characters(text).lower()) for text in texts]
        lowered = token_scores(module, continuations(lower, tokenizer), progress=progress)
    found = {}
    for attack in attacks:
        values = [
            _attack(attack, text, score, lowered[at] if lowered else None, k)
            for at, (text, score) in enumerate(zip(texts, scored, strict=True))
        ]
        of_forget = {text.id: value for text, value in zip(forget, values[: len(forget)], strict=True)}
        of_holdout = {text.id: value for text, value in zip(holdout, values[len(forget) :], strict=True)}
        found[attack] = Membership(attack, of_forget, of_holdout)
    return found


def length_match(tokenizer: Any, forget: Sequence[Text], holdout: Sequence[Text]) -> float:
    """p-value of the Kolmogorov-Smirnov test that both sets have the same distribution of lengths in tokens.

    Below 0.1 the sets should be drawn again: an attack could tell them apart by length alone.
    """
    ours, theirs = ([len(text.ids(tokenizer)) for text in texts] for texts in (forget, holdout))
    return float(cast(Any, ks_2samp(ours, theirs)).pvalue)


def auc(forget: Sequence[float], holdout: Sequence[float]) -> float:
    """P(a held-out text's number > a forgotten text's) + P(equal) / 2: MUSE's labels, forget 0 and holdout 1."""
    labels = [0] * len(forget) + [1] * len(holdout)
    return float(roc_auc_score(labels, [*forget, *holdout]))


def auc_score(scores: Membership, bootstrap: Bootstrap | None = None) -> Score:
    """AUC of an attack; both sets are resampled. The value to reach is the retrained model's, not 1/2 as such."""
    definition = Definition(f"auc_{scores.attack}", 1, "share", "target")
    forget, holdout = list(scores.forget.values()), list(scores.holdout.values())
    wins = wins_of(scores)
    interval = (bootstrap or Bootstrap()).interval(lambda f, h: weighted_auc(wins, f, h), wins.shape)
    return Score(
        definition, auc(forget, holdout), len(forget) + len(holdout), interval, "muse", item_values(scores)
    )


def wins_of(scores: Membership) -> np.ndarray:
    """[forget, holdout] float64: 1 where the held-out text's number is higher, 1/2 where they are equal, else 0."""
    forget = np.array(list(scores.forget.values()))[:, None]
    holdout = np.array(list(scores.holdout.values()))[None]
    return (holdout > forget) + 0.5 * (holdout == forget)


def weighted_auc(wins: np.ndarray, forget: Weights, holdout: Weights) -> np.ndarray:
    """AUC of each resample, [resamples]."""
    return ((forget @ wins) * holdout).sum(-1)


def item_values(scores: Membership) -> tuple[ItemValue, ...]:
    """Numbers of both sets, for a score's items."""
    return tuple(
        ItemValue(name, value, group)
        for group, values in (("forget", scores.forget), ("holdout", scores.holdout))
        for name, value in values.items()
    )


def _attack(name: str, text: Text, scores: TokenScores, lower: TokenScores | None, k: float) -> float:
    if name == "min_k":
        return min_k(scores, k)
    if name == "min_k_plus_plus":
        return min_k_plus_plus(scores, k)
    if name == "loss":
        return -scores.nll
    if name == "zlib":
        return zlib_ratio(scores, _characters(text))
    assert lower is not None
    return lowercase_ratio(scores, lower)


def _characters(text: Text) -> str:
    if isinstance(text.text, str):
        return text.text
    message = f"{text.id} is given as token ids, and this attack looks at characters. Give text, or drop the attack."
    raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message, metadata={"item": text.id})
