"""Which documents of a part are live, and therefore which of its search entries still have an owner."""

import numpy as np


class Liveness:
    """Live documents and entries of a part, by row; an entry is live as long as one of its owners is.

    Attributes
    ----------
    documents
        Whether each document is live, bool [documents].
    owners
        Number of live passages of each entry, int32 [entries].
    live
        Whether each entry has a live passage, bool [entries].
    count, length
        Number of live entries, and of terms in them: the statistics of BM25.
    """

    def __init__(
        self, documents: int = 0, owners: np.ndarray | None = None, lengths: np.ndarray | None = None
    ) -> None:
        owners = np.zeros(0, np.int32) if owners is None else owners
        self.documents = np.ones(documents, dtype=bool)
        self.owners = owners.astype(np.int32)
        self.live = self.owners > 0
        self.count = int(self.live.sum())
        self.length = 0 if lengths is None else int(lengths[self.live].sum(dtype=np.int64))

    def lose(self, entry: int, length: int) -> None:
        """Remove one owner of an entry with that many terms."""
        self.owners[entry] -= 1
        if self.owners[entry] == 0:
            self.live[entry] = False
            self.count -= 1
            self.length -= length

    def gain(self, entry: int, length: int) -> None:
        """Add an owner to an entry with that many terms."""
        self.owners[entry] += 1
        if self.owners[entry] == 1:
            self.live[entry] = True
            self.count += 1
            self.length += length

    def reserve(self, documents: int, entries: int) -> None:
        """Make room for so many rows. Arrays taken earlier are left unchanged."""
        self.documents = grown(self.documents, documents)
        self.owners = grown(self.owners, entries)
        self.live = grown(self.live, entries)


def grown(array: np.ndarray, size: int) -> np.ndarray:
    """Return an array with room for at least ``size`` elements: the same one, or a zero-padded copy twice as long."""
    if size <= len(array):
        return array
    larger = np.zeros(max(size, 2 * len(array), 64), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
