"""Fusing a dense and a sparse list of scores, with weights chosen for each query (NEST, section 3.1).

A list whose scores fall steeply separates its top results clearly; a flat list does not. With::

    fall(s) = 1 - s[100] / max s
    w_dense = 0.7 (1 - fall(sparse)) + 0.3 fall(dense),    w_sparse = 1 - w_dense

The paper adds raw scores, which works for a retriever whose inner products are in the hundreds. Cosines are two orders
of magnitude below BM25, so each list is divided by its maximum first; the falls are ratios and do not change.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

RANK = 100
"""Rank, from 0, of the score that is compared with the best one."""
_SPARSE_SHARE, _DENSE_SHARE = 0.7, 0.3
_LEAST = 1e-6


def fall(scores: Sequence[float], *, exhaustive: bool = False) -> float:
    """How steeply a list of scores falls, in [0, 1]: 0 if it is flat or empty, 1 if it falls to zero.

    Parameters
    ----------
    scores
        Best first.
    exhaustive
        Whether the list has every item with a positive score, as BM25's has: if it ends before ``RANK``, the score
        there is 0. For other short lists (a corpus smaller than ``RANK``) it is the last score.
    """
    if not scores or scores[0] <= 0:
        return 0.0
    rest = 0.0 if exhaustive else scores[-1]
    low = scores[RANK] if len(scores) > RANK else rest
    return 1.0 - max(low, 0.0) / scores[0]


def dense_weight(dense: Sequence[float], sparse: Sequence[float]) -> float:
    """Weight of the dense list, in [0, 1]; an empty list gets weight 0."""
    if not sparse or not dense:
        return 1.0 if dense else 0.0
    weight = _SPARSE_SHARE * (1 - fall(sparse, exhaustive=True)) + _DENSE_SHARE * fall(dense)
    return min(1.0, max(0.0, weight))


def fuse(dense: Mapping[K, float], sparse: Mapping[K, float]) -> list[tuple[K, float]]:
    """Fuse two lists of scores by key.

    A key missing from one list gets that list's lowest score. A sparse list that ends before ``RANK`` gives 0 instead:
    it has every passage that contains a query term, so a missing passage contains none.

    Parameters
    ----------
    dense, sparse
        Best first.

    Returns
    -------
    list
        Keys and scores > 0, best first.
    """
    ours, theirs = _scaled(dense), _scaled(sparse)
    weight = dense_weight(list(dense.values()), list(sparse.values()))
    least_dense = min(ours.values(), default=0.0)
    least_sparse = min(theirs.values()) if len(theirs) > RANK else 0.0
    fused = {
        key: weight * ours.get(key, least_dense) + (1 - weight) * theirs.get(key, least_sparse)
        for key in dict.fromkeys([*ours, *theirs])
    }
    rows = [(key, max(score, _LEAST)) for key, score in fused.items()]
    rows.sort(key=lambda row: -row[1])
    return rows


def _scaled(scores: Mapping[K, float]) -> dict[K, float]:
    most = max(scores.values(), default=0.0)
    if most <= 0:
        return dict.fromkeys(scores, 0.0)
    return {key: max(score, 0.0) / most for key, score in scores.items()}
