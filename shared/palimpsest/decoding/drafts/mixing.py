"""The arithmetic of superposed drafts: which tokens may follow which draft, and in what shares drafts are mixed.

Numbers of equations are those of Superposed Decoding (Shen et al., 2024), section 3.
"""

import numpy as np
import torch

_EXCLUDED = 400.0
"""Nats at least that put an excluded token behind all that the store knows, however small the penalty is."""

_COLDEST = 1e-4
"""A temperature of 0 is taken as this: all weight is on the most probable token, and the order of the rest stays."""


def shared_candidates(logits: torch.Tensor, pool: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that come into question for every draft, with the model's shared distribution over them (eq. 5).

    Parameters
    ----------
    logits
        [vocabulary], float32.
    pool
        How many tokens.
    temperature
        Of the distribution; not below 0.

    Returns
    -------
    tuple of np.ndarray
        Ids [c] int64, most probable first and the lowest id on ties, and log-probabilities [c] float64, renormalised.
    """
    ids, values = largest(logits[None], pool)[0]
    values = values / max(temperature, _COLDEST)
    return ids, values - np.logaddexp.reduce(values)


def largest(rows: torch.Tensor, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The largest of each row, best first and the lowest index on ties; what is not finite is left out.

    torch alone takes any of those that tie for the last place: in bfloat16 that is often another token than argmax's.

    Parameters
    ----------
    rows
        [rows, n].
    count
        How many of each.

    Returns
    -------
    list of tuple
        Indices int64 and values float64 of each row.
    """
    best = torch.topk(rows, min(count + 1, rows.shape[1]), dim=-1)
    found = []
    for row, ids, values in zip(
        rows, best.indices.cpu().numpy(), best.values.double().cpu().numpy(), strict=True
    ):
        if len(ids) > count and np.isfinite(values[count]) and values[count - 1] == values[count]:
            equal = torch.nonzero(row >= best.values.new_tensor(values[count])).flatten()
            ids, values = equal.cpu().numpy(), row[equal].double().cpu().numpy()
        order = np.lexsort((ids, -values))[:count]
        order = order[np.isfinite(values[order])]
        found.append((ids[order], values[order]))
    return found


def mix(
    shared: np.ndarray, ngram: np.ndarray | None, alpha: float, penalty: float, floor: float = 0.0
) -> np.ndarray:
    """What each candidate adds to each draft's score (eq. 6).

    Tokens that the n-gram model gives no probability are excluded for that draft. A draft for which that is all of
    them keeps them, less the penalty. Excluded ones come back behind these, less twice the penalty, 400 nats at least,
    so that there are always enough to choose from. As published, that is: with a floor nothing is excluded, which a
    store that has not seen much needs, as it lacks most of what the model would say.

    Parameters
    ----------
    shared
        Log-probabilities [c] float64.
    ngram
        Probabilities under each draft's n-grams, [k, c] float64; they need not sum to 1. None for no n-gram model.
    alpha
        Its weight; 0 leaves it out.
    penalty
        In nats.
    floor
        Share of probability that the n-gram model gives every token; 0 for the published rule.

    Returns
    -------
    np.ndarray
        [k, c] float64; [1, c], the same for all drafts, without an n-gram model.
    """
    if ngram is None or alpha == 0:
        return shared[None]
    if floor:
        ngram = (ngram + floor) / (1 + floor)
    own = (1 - alpha) * shared[None] + np.zeros_like(ngram)
    seen = ngram > 0
    lost = np.where(seen.any(axis=1, keepdims=True), max(2 * penalty, _EXCLUDED), penalty)
    with np.errstate(divide="ignore"):
        return np.where(seen, own + alpha * np.log(ngram), own - lost)


def best_children(scores: np.ndarray, gains: np.ndarray, count: int) -> list[tuple[int, int]]:
    """The best continuations over all drafts.

    Parameters
    ----------
    scores
        Of the drafts, [k].
    gains
        Of each candidate after each draft, [k, c] or [1, c].
    count
        How many to choose.

    Returns
    -------
    list of tuple
        Draft and column of each, best first; on ties the earlier draft, then the earlier column.
    """
    totals = (scores[:, None] + gains).ravel()
    chosen = np.argsort(-totals, kind="stable")[:count]
    width = gains.shape[1]
    return [(int(i) // width, int(i) % width) for i in chosen if np.isfinite(totals[i])]


def shares(scores: np.ndarray) -> np.ndarray:
    """Weights of the drafts' last tokens in the superposition: softmax of their scores (eq. 3), [k]."""
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()
