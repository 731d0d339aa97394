"""Choosing the mixture's parameters for one corpus and one model, by what they would have done to sampled text.

The paper's own values are right for its models; for others they may be much worse than no retrieval at all, as states
differ in how far apart they are. So positions are sampled from the corpus's documents, each searched in passages of
*other* documents, and the grid point with the lowest negative log-likelihood is taken, provided that it does no harm
where the store has nothing to offer: positions whose last six tokens are not in it.

The passage prior cannot be seen that way, as the right document is never there. It is chosen on a second sample, in
which it is.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.nest.settings import Calibration

MU = (0.3, 1.0, 3.0, 10.0)
ALPHA = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
TAU = (0.05, 0.1, 0.2)
R = (64, 128, 256, 1024)
BETA = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)

CONTEXT = 6
"""Tokens before a position that must be in the store for it to be seen before."""

LEAST_POSITIONS = 64

HARM = 0.005
"""Nats a novel position may lose on average and count as unharmed: the model's weight is never quite 1."""

PAPER = Calibration(mu=1.0, alpha=0.3, tau=0.1, r=1024, beta=0.0)
"""The paper's literal values."""


@dataclass(frozen=True)
class States:
    """What was found at N sampled positions, with R neighbours each, nearest first.

    Attributes
    ----------
    distances
        float32 [N, R]: squared distances of states of norm sqrt(d); infinite where there were fewer neighbours.
    hits
        bool [N, R]: whether the neighbour's value is the token that came.
    priors
        float32 [N, R]: log of the neighbour's passage score over the best.
    lm
        float32 [N]: log-probability (nats) of that token under the model.
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
    """Log-probability of the token that came under its r nearest neighbours alone: float64 [N], -inf if none had it."""
    part = slice(0, r)
    scores = -mu / math.sqrt(states.size) * states.distances[:, part].astype(np.float64)
    if beta:
        scores += beta * states.priors[:, part]
    most = scores.max(axis=1, keepdims=True, initial=-1e300)
    weights = np.exp(scores - most)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log((weights * states.hits[:, part]).sum(axis=1)) - np.log(weights.sum(axis=1))


def ratios(states: States, r: int) -> np.ndarray:
    """How much the nearest of r neighbours stands out at each position: float64 [N]; 1 with fewer than 8."""
    distances = states.distances[:, :r].astype(np.float64)
    counts = np.isfinite(distances).sum(axis=1)
    last = distances[np.arange(len(distances)), np.maximum(counts - 1, 0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((counts >= 8) & (last > 0), distances[:, 0] / last, 1.0)


def losses(states: States, point: Calibration) -> np.ndarray:
    """Negative log-likelihood (nats) of the token that came at each position: float64 [N]."""
    ratio, few = ratios(states, point.r), np.isfinite(states.distances).sum(axis=1) < 8
    knn = knn_log_probability(states, point.mu, point.beta, point.r)
    return _mixed(states, ratio, knn, few, point.alpha, point.tau)


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
        Positions searched in other documents' passages.
    within
        Positions searched with their own document among the passages, for the passage prior; None for no prior.
    model
        Fingerprint of the model.
    mu, alpha, tau, r, beta
        The grid.

    Returns
    -------
    Calibration
        The point with the lowest loss among those that do novel positions no harm on average; where every point does,
        the one that does least. What it does is in it; ask :func:`hurts`.

    Raises
    ------
    FailedPrecondition
        CALIBRATION_EMPTY: fewer than 64 positions.
    """
    if len(states.lm) < LEAST_POSITIONS:
        raise FailedPrecondition(
            Reason.CALIBRATION_EMPTY,
            f"Only {len(states.lm)} positions could be sampled; calibrating takes {LEAST_POSITIONS} at least. Add "
            "documents, or longer ones.",
        )
    few = np.isfinite(states.distances).sum(axis=1) < 8
    alphas, taus, best = list(alpha), list(tau), None
    for neighbours in r:
        ratio = ratios(states, neighbours)
        for temperature in mu:
            knn = knn_log_probability(states, temperature, 0.0, neighbours)
            for turn, width in product(alphas, taus):
                loss = _mixed(states, ratio, knn, few, turn, width)
                point = Calibration(temperature, turn, width, neighbours)
                rank = _rank(states, loss)
                if best is None or rank < best[0]:
                    best = (rank, point)
    assert best is not None
    point = best[1]
    if within is not None and len(within.lm):
        allowed = best[0][0]
        priors = [replace(point, beta=b) for b in beta]
        fine = [p for p in priors if _rank(states, losses(states, p))[0] <= allowed + 1e-9] or [point]
        point = min(fine, key=lambda p: float(losses(within, p).mean()))
    return measured(states, point, model)


def _rank(states: States, loss: np.ndarray) -> tuple[float, float]:
    """First the mean harm to novel positions, beyond what is allowed; then the mean loss."""
    novel = ~states.seen
    harm = float((loss + states.lm)[novel].mean()) if novel.any() else 0.0
    return max(0.0, harm - HARM), float(loss.mean())


def measured(states: States, point: Calibration, model: str = "") -> Calibration:
    """A point with what it does to the sampled positions."""
    loss, novel = losses(states, point), ~states.seen

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else 0.0

    return replace(
        point, model=model, positions=len(loss), novel=int(novel.sum()), nll_lm=mean(-states.lm), nll=mean(loss),
        novel_nll_lm=mean(-states.lm[novel]), novel_nll=mean(loss[novel]),
    )  # fmt: skip


def hurts(states: States, point: Calibration) -> bool:
    """Whether a point, such as :data:`PAPER`, is worse than no retrieval: overall, or where nothing is known."""
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
