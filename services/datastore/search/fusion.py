"""One list from two: how far to trust words and how far to trust meaning, decided by each query (NEST, section 3.1).

A list whose scores fall off steeply knows what it found; one that is flat does not. With ``fall(x) = 1 - s[100] /
max s`` the dense list gets the weight ``0.7 (1 - fall(sparse)) + 0.3 fall(dense)`` and the sparse one the rest.

The paper adds raw scores, which a retriever with inner products in the hundreds can afford. Cosines are two orders of
magnitude below BM25, so each list is divided by its maximum first; the falls are ratios and do not change.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

RANK = 100
"""Place, from 0, of the score that the best one is compared with."""
_SPARSE_SHARE, _DENSE_SHARE = 0.7, 0.3
_LEAST = 1e-6


def fall(scores: Sequence[float], *, exhaustive: bool = False) -> float:
    """How steeply the scores of a list, best first, fall: 0 flat, 1 to nothing. In [0, 1]; 0 for no scores.

    Parameters
    ----------
    scores
        Best first.
    exhaustive
        The list has everything that scores at all (BM25's), so what would come at ``RANK`` in a shorter one has 0.
        Otherwise (a corpus smaller than ``RANK``) the last score stands for it.
    """
    if not scores or scores[0] <= 0:
        return 0.0
    rest = 0.0 if exhaustive else scores[-1]
    low = scores[RANK] if len(scores) > RANK else rest
    return 1.0 - max(low, 0.0) / scores[0]


def dense_weight(dense: Sequence[float], sparse: Sequence[float]) -> float:
    """Weight of the dense list, in [0, 1]. A list that is empty gets none."""
    if not sparse or not dense:
        return 1.0 if dense else 0.0
    weight = _SPARSE_SHARE * (1 - fall(sparse, exhaustive=True)) + _DENSE_SHARE * fall(dense)
    return min(1.0, max(0.0, weight))


def fuse(dense: Mapping[K, float], sparse: Mapping[K, float]) -> list[tuple[K, float]]:
    """Fuse two lists of scores by key.

    What one list lacks gets that list's least score; but 0 from a list of words that ends before ``RANK``: it has
    every passage with any of them, and would else give the others as much as its worst, or, where it has one, its best.

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
