"""LiRA: membership inference with shadow models (Carlini et al. 2022), for models small enough to train many of.

Each shadow model is trained on a random half of the candidate texts. A text's number under the audited model is then
more like those of the shadows that saw the text, or more like those of the shadows that did not. For unlearning, the
shadows that saw it are ones that unlearned it, and the others are retrained without it: where those cannot be told
apart, the removal is as good as retraining.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.scores import Definition, ItemValue, Score

LIRA_AUC = Definition("lira_auc", 1, "share", "target", target=0.5)
"""P(a member's LiRA score > a non-member's) + P(equal) / 2."""

RATES = (0.01, 0.001)
"""False-positive rates at which the true-positive rate is told."""

_LEAST_DEVIATION = 1e-6


def confidence(mean_logprob: np.ndarray) -> np.ndarray:
    """Logit of the geometric mean of the tokens' probabilities p: log p - log(1 - p) (equation 3, for sequences).

    Parameters
    ----------
    mean_logprob
        Mean log-probabilities, in nats, below 0.
    """
    logp = np.minimum(np.asarray(mean_logprob, np.float64), -1e-12)
    return logp - np.log(-np.expm1(logp))


def lira_scores(
    shadows: np.ndarray,
    inside: np.ndarray,
    audited: np.ndarray,
    variance: Literal["text", "pooled"] = "pooled",
) -> np.ndarray:
    """Log-likelihood ratio of each text's confidence: log N(audited | in) - log N(audited | out) (algorithm 1).

    Parameters
    ----------
    shadows
        float [shadows, texts]: confidences under the shadow models.
    inside
        bool [shadows, texts]: whether the shadow model saw the text.
    audited
        float [texts]: confidences under the audited model.
    variance
        "pooled": one variance for all texts, better with fewer than some 64 shadows; "text": one for each.

    Returns
    -------
    numpy.ndarray
        float64 [texts]; higher is more like a member.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID: shapes that differ, or a text that fewer than two shadows saw or fewer than two did not.
    """
    if shadows.shape != inside.shape or shadows.shape[1:] != audited.shape:
        message = (
            f"The shadows' numbers are {shadows.shape}, their masks {inside.shape} and the audited model's numbers "
            f"{audited.shape}; they have to be [shadows, texts], the same and [texts]."
        )
        raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)
    if min(inside.sum(0).min(), (~inside).sum(0).min()) < 2:
        message = (
            "Each text needs at least two shadow models that saw it and two that did not. Train more shadows."
        )
        raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)
    log_density = []
    for mask in (inside, ~inside):
        chosen = np.where(mask, shadows, np.nan)
        mean = np.nanmean(chosen, 0)  # [texts]
        spread = np.nanstd(chosen, 0, ddof=1)
        if variance == "pooled":
            spread = np.full_like(spread, np.sqrt(np.nanmean(spread**2)))
        log_density.append(stats.norm.logpdf(audited, mean, np.maximum(spread, _LEAST_DEVIATION)))
    return log_density[0] - log_density[1]


def tpr_at(members: Sequence[float], others: Sequence[float], rate: float) -> float:
    """Largest share of members above a threshold that at most the share ``rate`` of the others is above.

    With fewer than 1 / ``rate`` others it is the share of members above all of them.
    """
    labels = [1] * len(members) + [0] * len(others)
    false, true, _ = roc_curve(labels, [*members, *others], drop_intermediate=False)
    return float(true[false <= rate].max())


def lira_report(
    scores: np.ndarray, member: np.ndarray, names: Sequence[str], bootstrap: Bootstrap | None = None
) -> list[Score]:
    """AUC, and true-positive rates at the false-positive rates :data:`RATES`.

    Parameters
    ----------
    scores
        float [texts], of :func:`lira_scores`.
    member
        bool [texts]: which texts the audited model was trained on (or unlearned); some and not all.
    names
        Ids of the texts.
    bootstrap
        How the AUC's interval is made; None for the usual one.
    """
    inside, outside = scores[member], scores[~member]
    labels = np.asarray(member, np.int64)
    wins = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    items = tuple(
        ItemValue(name, float(value), "member" if of else "other")
        for name, value, of in zip(names, scores, member, strict=True)
    )
    interval = (bootstrap or Bootstrap()).interval(lambda i, o: ((i @ wins) * o).sum(-1), wins.shape)
    found = [Score(LIRA_AUC, float(roc_auc_score(labels, scores)), len(scores), interval, items=items)]
    for rate in RATES:
        definition = Definition(f"lira_tpr_at_{rate:g}", 1, "share", "target", target=rate)
        value = tpr_at(inside.tolist(), outside.tolist(), rate)
        found.append(Score(definition, value, len(scores), convention=f"{len(outside)} others"))
    return found
