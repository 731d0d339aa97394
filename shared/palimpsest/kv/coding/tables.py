"""Integer frequency tables of the entropy coder, the same at both ends and on every machine."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from palimpsest.errors import InvalidArgument, Reason

PROBABILITY_BITS = 12
TOTAL = 1 << PROBABILITY_BITS
"""Sum of the frequencies of a table."""
ALPHABET = 256


@dataclass(frozen=True)
class Tables:
    """Integer frequency tables, one row for each class of columns.

    Parameters
    ----------
    frequencies
        ``[classes, 256]`` uint16; each row sums to 4096. A symbol of frequency 0 cannot be coded.
    """

    frequencies: np.ndarray
    starts: np.ndarray = field(init=False, repr=False)
    symbols: np.ndarray = field(init=False, repr=False)
    """``[classes, 4096]`` uint8: whose range a value lies in. Small, so that the classes in use stay in the cache."""
    ranges: np.ndarray = field(init=False, repr=False)
    """``[classes, 256]`` uint32: frequency | start << 16."""

    def __post_init__(self) -> None:
        rows = np.ascontiguousarray(self.frequencies, dtype=np.uint32)
        if rows.ndim != 2 or rows.shape[1] != ALPHABET or not (rows.sum(1) == TOTAL).all():
            raise InvalidArgument(
                Reason.KV_PROFILE_INVALID,
                f"Frequency tables are [classes, 256] and sum to {TOTAL}; recalibrate.",
            )
        starts = (np.cumsum(rows, 1) - rows).astype(np.uint32)
        each = np.tile(np.arange(ALPHABET, dtype=np.uint8), len(rows))
        symbols = np.repeat(each, rows.ravel()).reshape(len(rows), TOTAL)
        ranges = rows | starts << 16
        for name, value in (
            ("frequencies", rows), ("starts", starts), ("symbols", symbols), ("ranges", ranges)
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    @cached_property
    def slots(self) -> np.ndarray:
        """``[classes * 4096]`` uint32: symbol | frequency - 1 << 8 | offset in its range << 20, for one look-up."""
        owner = np.arange(len(self.frequencies))[:, None]
        offset = np.arange(TOTAL, dtype=np.uint32) - self.starts[owner, self.symbols]
        return (self.symbols | (self.frequencies[owner, self.symbols] - 1) << 8 | offset << 20).ravel()

    def cost(self) -> np.ndarray:
        """Return the ideal bits of each symbol, ``[classes, 256]`` float64; infinite where it cannot be coded."""
        with np.errstate(divide="ignore"):
            return PROBABILITY_BITS - np.log2(self.frequencies.astype(np.float64))


def frequencies_from_counts(counts: np.ndarray) -> np.ndarray:
    """Turn counts into frequencies that sum to 4096, every symbol codable, by integer arithmetic.

    Parameters
    ----------
    counts
        ``[classes, 256]`` non-negative integers; a row's sum is below 2**50.

    Returns
    -------
    numpy.ndarray
        ``[classes, 256]`` uint16.
    """
    counts = np.asarray(counts, dtype=np.int64)
    room = TOTAL - ALPHABET
    sums = np.maximum(counts.sum(1, keepdims=True), 1)
    share, rest = np.divmod(counts * room, sums)
    result = share + 1
    for row, fraction in zip(result, rest, strict=True):
        best = np.lexsort((np.arange(ALPHABET), -fraction))[: TOTAL - int(row.sum())]
        row[best] += 1
    return result.astype(np.uint16)
