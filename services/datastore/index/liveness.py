"""Which documents of a part are still there, and so which of its search entries still have an owner."""

import numpy as np


class Liveness:
    """Documents and entries of a part by row; an entry lives as long as one of its owners does.

    Attributes
    ----------
    documents
        bool [documents].
    owners
        Live passages of each entry, int32 [entries].
    live
        Whether an entry has any, bool [entries].
    count, length
        Live entries, and the terms in them: what BM25's statistics are made of.
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
        """Take one owner from an entry."""
        self.owners[entry] -= 1
        if self.owners[entry] == 0:
            self.live[entry] = False
            self.count -= 1
            self.length -= length

    def gain(self, entry: int, length: int) -> None:
        """Give an entry an owner."""
        self.owners[entry] += 1
        if self.owners[entry] == 1:
            self.live[entry] = True
            self.count += 1
            self.length += length

    def reserve(self, documents: int, entries: int) -> None:
        """Have room for so many rows; views taken earlier stay as they are."""
        self.documents = _grown(self.documents, documents)
        self.owners = _grown(self.owners, entries)
        self.live = _grown(self.live, entries)


def _grown(array: np.ndarray, size: int) -> np.ndarray:
    if size <= len(array):
        return array
    larger = np.zeros(max(size, 2 * len(array), 64), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
