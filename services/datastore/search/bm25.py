"""BM25 over the parts of a corpus, with the statistics of all of them together (k1 1.2, b 0.75)."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from services.datastore.index.analysis import Terms
from services.datastore.index.liveness import Liveness

K1, B = 1.2, 0.75


class Searched(Protocol):
    """What scoring needs of a part: see ``Memtable`` and ``Segment``."""

    liveness: Liveness

    @property
    def entries(self) -> int:
        """How many there are."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Terms of each, int32 [entries]."""
        ...

    def postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """Entries a term is in, and how often."""
        ...


def scores(parts: Sequence[Searched], query: Terms) -> list[np.ndarray]:
    """Score every live entry of every part.

    The weight of a term is ``log(1 + (N - df + 1/2) / (df + 1/2))`` over live entries; a term that the query has
    twice counts twice. Deleted entries count for nothing, in no statistic.

    Returns
    -------
    list
        float32 [entries] for each part; 0 where no term is, or the entry is dead.
    """
    count = sum(part.liveness.count for part in parts)
    length = sum(part.liveness.length for part in parts)
    found = [np.zeros(part.entries, np.float32) for part in parts]
    if not count:
        return found
    mean = length / count or 1.0
    for term, wanted in query.items():
        postings = []
        for part in parts:
            entries, counts = part.postings(term)
            alive = part.liveness.live[entries]
            postings.append((entries[alive], counts[alive]))
        held = sum(len(entries) for entries, _ in postings)
        weight = wanted * math.log(1 + (count - held + 0.5) / (held + 0.5))
        for part, (entries, counts), total in zip(parts, postings, found, strict=True):
            norm = K1 * (1 - B + B * part.lengths[entries] / mean)
            total[entries] += weight * counts * (K1 + 1) / (counts + norm)
    return found


def best(parts: Sequence[Searched], query: Terms, k: int) -> list[tuple[int, int, float]]:
    """The k entries that score most, as (part, entry, score), best first; those that score nothing are left out."""
    rows: list[tuple[int, int, float]] = []
    for number, score in enumerate(scores(parts, query)):
        hits = np.flatnonzero(score)
        if len(hits) > k:
            hits = hits[np.argpartition(-score[hits], k - 1)[:k]]
        rows += [(number, int(e), float(score[e])) for e in hits]
    rows.sort(key=lambda row: (-row[2], row[0], row[1]))
    return rows[:k]
