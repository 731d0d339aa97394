"""The arithmetic of superposed drafts: scores of the continuations, and weights of the mixture.

Equation numbers are those of Superposed Decoding (Shen et al., 2024), section 3.
"""

import numpy as np
import torch

_EXCLUDED = 400.0
"""Nats that rank an excluded token behind every token in the store, however small the penalty is."""

_COLDEST = 1e-4
"""Stands for a temperature of 0: all weight is on the most probable token, and the order of the rest is kept."""


def shared_candidates(logits: torch.Tensor, pool: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The candidates for every draft's next token, with the model's shared distribution over them (eq. 5).

    Parameters
    ----------
    logits
        [vocabulary], float32.
    pool
        Number of candidates c.
    temperature
        Of the distribution; at least 0.

    Returns
    -------
    tuple of np.ndarray
        Ids [c] int64, most probable first and the lowest id on ties, and log-probabilities [c] float64, renormalised.
    """
    ids, values = largest(logits[None], pool)[0]
    values = values / max(temperature, _COLDEST)
    return ids, values - np.logaddexp.reduce(values)


def largest(rows: torch.Tensor, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The largest entries of each row, best first and lowest index on ties; entries that are not finite are left out.

    ``torch.topk`` breaks ties arbitrarily, and in bfloat16 ties are frequent.

    Parameters
    ----------
    rows
        [rows, n].
    count
        How many entries of each row.

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
    """The gain of each candidate in each draft's score (eq. 6).

    As published (floor 0), a draft excludes candidates without n-gram probability; if it has no other candidate it
    keeps them, less the penalty. Excluded candidates rank behind these, less twice the penalty and at least 400 nats,
    so that there are always enough to choose from. With a floor nothing is excluded, which suits small stores.

    Parameters
    ----------
    shared
        Log-probabilities [c] float64.
    ngram
        Probabilities under each draft's n-grams, [k, c] float64; they need not sum to 1. None for no n-gram model.
    alpha
        Weight of the n-gram model; 0 leaves it out.
    penalty
        In nats.
    floor
        Probability mass that the n-gram model spreads over all tokens; 0 for the published rule.

    Returns
    -------
    np.ndarray
        float64 [k, c]; [1, c], the same for all drafts, without an n-gram model.
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
