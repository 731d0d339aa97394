"""BM25 over the parts of one or more corpora, with joint statistics (k1 1.2, b 0.75)."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from services.datastore.index.analysis import Terms
from services.datastore.index.liveness import Liveness

K1, B = 1.2, 0.75


class ScoredPart(Protocol):
    """What BM25 needs from a part; ``Memtable`` and ``Segment`` provide it."""

    liveness: Liveness

    @property
    def entries(self) -> int:
        """Number of entries."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Number of terms in each entry, int32 [entries]."""
        ...

    def postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """Entries that contain a term, int64 [n], and its count in each, float32 [n]."""
        ...


def scores(parts: Sequence[ScoredPart], query: Terms) -> list[np.ndarray]:
    """Score every live entry of every part.

    With N live entries, df of them containing a term, tf its count in an entry and l the entry's length::

        idf   = log(1 + (N - df + 1/2) / (df + 1/2))
        score = sum over query terms of idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * l / mean l))

    A term that occurs twice in the query counts twice. Deleted entries are left out of all statistics.

    Returns
    -------
    list
        For each part, float32 [entries]; 0 for entries that are deleted or contain no query term.
    """
    count = sum(part.liveness.count for part in parts)  # N
    length = sum(part.liveness.length for part in parts)
    totals = [np.zeros(part.entries, np.float32) for part in parts]  # [entries] float32, one for each part
    if not count:
        return totals
    mean = length / count or 1.0
    for term, repeats in query.items():
        postings = []
        for part in parts:
            entries, counts = part.postings(term)  # [n] int64, [n] float32
            live = part.liveness.live[entries]  # [n] bool
            postings.append((entries[live], counts[live]))
        frequency = sum(len(entries) for entries, _ in postings)  # df
        weight = repeats * math.log(1 + (count - frequency + 0.5) / (frequency + 0.5))
        for part, (entries, counts), total in zip(parts, postings, totals, strict=True):
            norm = K1 * (1 - B + B * part.lengths[entries] / mean)  # [n] float64
            total[entries] += weight * counts * (K1 + 1) / (counts + norm)
    return totals


def best(parts: Sequence[ScoredPart], query: Terms, k: int) -> list[tuple[int, int, float]]:
    """The k entries with the highest scores as (part, entry, score), best first; entries that score 0 are left out."""
    rows: list[tuple[int, int, float]] = []
    for index, score in enumerate(scores(parts, query)):
        hits = np.flatnonzero(score)  # [hits] int64
        if len(hits) > k:
            hits = hits[np.argpartition(-score[hits], k - 1)[:k]]  # [k], unordered
        rows += [(index, int(e), float(score[e])) for e in hits]
    rows.sort(key=lambda row: (-row[2], row[0], row[1]))
    return rows[:k]
