"""Sorting more windows than fit in memory: a most-significant-token bucket sort on disk.

A file with too many windows is partitioned by the first token in which they may differ, into files of consecutive
tokens. Files that are still too large are partitioned more finely, or by the next token where all windows agree. So any
text, however repetitive, is sorted in the memory of one bucket.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palimpsest.ngrams.layout import LONGEST

_PARTS = 64
"""A bucket is partitioned into about this many files, at most twice as many, all open at once."""


@dataclass(frozen=True)
class _Bucket:
    """A file of windows that agree before a column and whose tokens in it are in [low, high)."""

    path: Path
    column: int
    low: int
    high: int


class Sorting:
    """Sorts files of windows.

    Parameters
    ----------
    dtype
        Of tokens.
    vocab_size
        Ids are below this; anything else is the filler, which sorts last.
    limit
        Windows in memory at once.
    check
        Called for every ``limit`` windows; raises to stop.
    """

    def __init__(self, dtype: np.dtype, vocab_size: int, limit: int, check: Callable[[], None]) -> None:
        self._dtype, self._vocabulary = dtype, vocab_size
        self._limit, self._check = limit, check

    def run(self, path: Path) -> Iterator[np.ndarray]:
        """Yield a file's windows in order, [n, 6] at a time, never more than the limit; the file is deleted.

        Needs as much additional disk space as the file.
        """
        yield from self._sort(_Bucket(path, 0, 0, self._vocabulary + 1))

    def _sort(self, bucket: _Bucket) -> Iterator[np.ndarray]:
        windows = bucket.path.stat().st_size // (LONGEST * self._dtype.itemsize)
        if windows > self._limit and bucket.column < LONGEST:
            for part in self._part(bucket):
                yield from self._sort(part)
            return
        # Windows that agree in every column need no sorting, however many they are.
        for block in self._read(bucket):
            yield block[np.lexsort(block.T[::-1])]
        bucket.path.unlink()

    def _part(self, bucket: _Bucket) -> list[_Bucket]:
        """Partition a bucket by its column into buckets of consecutive tokens, in order."""
        histogram = np.zeros(bucket.high - bucket.low, dtype=np.int64)
        for block in self._read(bucket):
            histogram += np.bincount(self._offsets(block, bucket), minlength=len(histogram))
        groups = _groups(histogram, max(self._limit, int(histogram.sum()) // _PARTS))
        parts = []
        for number, (first, last) in enumerate(groups):
            path = bucket.path.with_name(f"{bucket.path.name}-{number}")
            if first == last:
                parts.append(_Bucket(path, bucket.column + 1, 0, self._vocabulary + 1))
            else:
                parts.append(_Bucket(path, bucket.column, bucket.low + first, bucket.low + last + 1))
        files = [part.path.open("wb") for part in parts]
        try:
            firsts = np.array([first for first, _ in groups])
            for block in self._read(bucket):
                part = np.searchsorted(firsts, self._offsets(block, bucket), side="right") - 1
                order = np.argsort(part, kind="stable")
                bounds = np.searchsorted(part[order], np.arange(len(files) + 1))
                for number, file in enumerate(files):
                    file.write(block[order[bounds[number] : bounds[number + 1]]].data)
        finally:
            for file in files:
                file.close()
        bucket.path.unlink()
        return parts

    def _read(self, bucket: _Bucket) -> Iterator[np.ndarray]:
        """A bucket's windows in file order, as many at a time as fit in memory."""
        with bucket.path.open("rb") as file:
            while len(block := np.fromfile(file, self._dtype, LONGEST * self._limit)):
                self._check()
                yield block.reshape(-1, LONGEST)

    def _offsets(self, block: np.ndarray, bucket: _Bucket) -> np.ndarray:
        """Each window's token in the bucket's column, relative to ``low``; the filler comes last: int64 [n]."""
        return np.minimum(block[:, bucket.column].astype(np.int64), self._vocabulary) - bucket.low


def _groups(histogram: np.ndarray, most: int) -> list[tuple[int, int]]:
    """First and last offset of each group of consecutive offsets with at most ``most`` windows, or of a single one."""
    groups: list[tuple[int, int]] = []
    size = most
    for offset in np.flatnonzero(histogram).tolist():
        count = int(histogram[offset])
        if size + count > most:
            groups.append((offset, offset))
            size = count
        else:
            groups[-1] = groups[-1][0], offset
            size += count
    return groups
