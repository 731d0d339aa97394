"""Choosing the mixture's parameters for a corpus and a model, by the likelihood of sampled text.

The paper's values suit its models; on others they may be much worse than no retrieval, because distances between states
differ. So positions are sampled from the corpus's documents, each searched in passages of *other* documents, and the
grid point with the lowest negative log-likelihood is chosen, provided that it does no harm at novel positions: those
whose last six tokens are not in the store.

That sample cannot show the benefit of the passage prior, because the right document is never there. So there may be a
second sample that includes it; the losses of both have equal weight.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from palimpsest.candidates.settings import Calibration
from palimpsest.errors import FailedPrecondition, Reason

MU = (0.3, 1.0, 3.0, 10.0)
ALPHA = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
TAU = (0.05, 0.1, 0.2)
R = (64, 128, 256, 1024)
BETA = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)

CONTEXT = 6
"""A position counts as seen if the store contains this many tokens before it."""

LEAST_KEYS = 8
"""As in :mod:`palimpsest.candidates.mixture`, which imports torch."""

LEAST_POSITIONS = 64

HARM = 0.005
"""Mean loss in nats that novel positions may take: the model's weight is never exactly 1."""

PAPER = Calibration(mu=1.0, alpha=0.3, tau=0.1, r=1024, beta=0.0)
"""The paper's literal values."""


@dataclass(frozen=True)
class States:
    """N sampled positions with R neighbours each, nearest first.

    Attributes
    ----------
    distances
        float32 [N, R]: squared distances of states of norm sqrt(d); infinite where there were fewer neighbours.
    hits
        bool [N, R]: whether the neighbour's value is the actual token.
    priors
        float32 [N, R]: log of the neighbour's passage score over the best.
    lm
        float32 [N]: log-probability (nats) of the actual token under the model.
    seen
        bool [N]: whether the store has the position's last six tokens.
    size
        d.
    """

    distances: np.ndarray
    hits: np.ndarray
    priors: np.ndarray
    lm: np.ndarray
    seen: np.ndarray
    size: int

    @classmethod
    def joined(cls, parts: Sequence["States"]) -> "States":
        """Several samples as one."""
        names = ("distances", "hits", "priors", "lm", "seen")
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names), size=parts[0].size)


def knn_log_probability(states: States, mu: float, beta: float, r: int) -> np.ndarray:
    """Log-probability of the actual token under the r nearest neighbours alone: float64 [N], -inf if none has it."""
    part = slice(0, r)
    scores = -mu / math.sqrt(states.size) * states.distances[:, part].astype(np.float64)
    if beta:
        scores += beta * states.priors[:, part]
    most = scores.max(axis=1, keepdims=True, initial=-1e300)
    weights = np.exp(scores - most)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log((weights * states.hits[:, part]).sum(axis=1)) - np.log(weights.sum(axis=1))


def ratios(states: States, r: int) -> np.ndarray:
    """Distance ratio of the nearest to the last of r neighbours: float64 [N]; 1 with fewer than 8 neighbours."""
    distances = states.distances[:, :r].astype(np.float64)
    counts = np.isfinite(distances).sum(axis=1)
    last = distances[np.arange(len(distances)), np.maximum(counts - 1, 0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((counts >= LEAST_KEYS) & (last > 0), distances[:, 0] / last, 1.0)


def losses(states: States, point: Calibration) -> np.ndarray:
    """Negative log-likelihood (nats) of the actual token at each position: float64 [N]."""
    knn = knn_log_probability(states, point.mu, point.beta, point.r)
    return _mixed(states, ratios(states, point.r), knn, _few(states), point.alpha, point.tau)


def _mixed(
    states: States, ratio: np.ndarray, knn: np.ndarray, few: np.ndarray, alpha: float, tau: float
) -> np.ndarray:
    score = (ratio - alpha) / tau
    model = states.lm - np.logaddexp(0, -score)
    both = np.logaddexp(model, knn - np.logaddexp(0, score))
    return -np.where(few, states.lm, both)


def calibrate(
    states: States,
    within: States | None = None,
    model: str = "",
    mu: Iterable[float] = MU,
    alpha: Iterable[float] = ALPHA,
    tau: Iterable[float] = TAU,
    r: Iterable[int] = R,
    beta: Iterable[float] = BETA,
) -> Calibration:
    """Choose a grid point.

    Parameters
    ----------
    states
        Positions searched in passages of other documents.
    within
        Positions searched with their own document among the passages; None for no such sample, and no prior.
    model
        Fingerprint of the model.
    mu, alpha, tau, r, beta
        The grid.

    Returns
    -------
    Calibration
        The point with the lowest loss among those that do not harm novel positions on average; if all do, the one with
        the least harm. It includes its measured losses; see :func:`hurts`.

    Raises
    ------
    FailedPrecondition
        CALIBRATION_EMPTY: fewer than 64 positions.
    """
    if len(states.lm) < LEAST_POSITIONS:
        raise FailedPrecondition(
            Reason.CALIBRATION_EMPTY,
            f"Only {len(states.lm)} positions could be sampled; calibration needs at least {LEAST_POSITIONS}. Add "
            "documents, or longer ones.",
        )
    samples = [states] if within is None or not len(within.lm) else [states, within]
    priors = [0.0] if len(samples) == 1 else list(beta)
    turns, best, point = list(product(alpha, tau)), None, Calibration()
    for neighbours, temperature, prior in product(list(r), list(mu), priors):
        found = [
            (s, ratios(s, neighbours), knn_log_probability(s, temperature, prior, neighbours), _few(s))
            for s in samples
        ]
        for turn, width in turns:
            each = [_mixed(*sample, turn, width) for sample in found]
            rank = (_harm(states, each[0]), sum(float(loss.mean()) for loss in each))
            if best is None or rank < best:
                best, point = rank, Calibration(temperature, turn, width, neighbours, prior)
    return measured(states, point, model)


def _harm(states: States, loss: np.ndarray) -> float:
    """Mean harm to novel positions, beyond what is allowed."""
    novel = ~states.seen
    return max(0.0, float((loss + states.lm)[novel].mean()) - HARM) if novel.any() else 0.0


def _few(states: States) -> np.ndarray:
    """Positions with too few neighbours for a mixture: bool [N]."""
    return np.isfinite(states.distances).sum(axis=1) < LEAST_KEYS


def measured(states: States, point: Calibration, model: str = "") -> Calibration:
    """A point with its losses at the sampled positions."""
    loss, novel = losses(states, point), ~states.seen

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else 0.0

    return replace(
        point, model=model, positions=len(loss), novel=int(novel.sum()), nll_lm=mean(-states.lm), nll=mean(loss),
        novel_nll_lm=mean(-states.lm[novel]), novel_nll=mean(loss[novel]),
    )  # fmt: skip


def hurts(states: States, point: Calibration) -> bool:
    """Whether a point, such as :data:`PAPER`, is worse than no retrieval: overall, or at novel positions."""
    found = measured(states, point)
    return found.nll > found.nll_lm or found.novel_nll > found.novel_nll_lm + HARM


def grams(texts: Iterable[Sequence[int]], size: int = CONTEXT) -> set[tuple[int, ...]]:
    """All runs of ``size`` tokens in a store's texts."""
    return {tuple(text[n : n + size]) for text in map(list, texts) for n in range(len(text) - size + 1)}


def seen_in(ids: Sequence[int], known: set[tuple[int, ...]], size: int = CONTEXT) -> np.ndarray:
    """For each token of a text, whether the ``size`` tokens before it are known: bool [len(ids)]."""
    whole = list(ids)
    return np.array(
        [n >= size and tuple(whole[n - size : n]) in known for n in range(len(whole))], dtype=bool
    )
