"""Where in its cell a symbol is reconstructed: learned for the cells next to zero, the middle for all others."""

import numpy as np

from palimpsest.kv.coding.quantiser import ZERO
from palimpsest.kv.coding.rans import jit
from palimpsest.kv.coding.tables import ALPHABET

NEAR = 4
"""Cells on each side of zero whose reconstruction point is learned."""
_ENOUGH = 50
"""Symbols a cell must have for its reconstruction point to move."""


def centres(counts: np.ndarray, offsets: np.ndarray, classes: np.ndarray, tables: int) -> np.ndarray:
    """Return the reconstruction point of each symbol: near zero, cells hold more on their inner side.

    Parameters
    ----------
    counts, offsets
        ``[columns, 256]`` and ``[columns, NEAR]``, from ``count_offsets``.
    classes
        ``[columns]`` uint8, the table of each column.
    tables
        How many tables there are.

    Returns
    -------
    numpy.ndarray
        ``[tables, 256]`` float32, in cells.
    """
    seen = np.zeros((tables, NEAR))
    shift = np.zeros((tables, NEAR))
    outward = counts[:, ZERO + 1 : ZERO + 1 + NEAR].astype(np.float64)  # [columns, NEAR]
    inward = counts[:, ZERO - 1 : ZERO - 1 - NEAR : -1]  # [columns, NEAR], mirrored
    np.add.at(seen, classes, outward + inward)  # [tables, NEAR]
    np.add.at(shift, classes, offsets)  # [tables, NEAR]
    shift = np.clip(np.where(seen > _ENOUGH, shift / np.maximum(seen, 1), 0), -0.5, 0.5)
    points = np.tile(np.arange(ALPHABET, dtype=np.float64) - ZERO, (tables, 1))  # [tables, 256]
    points[:, ZERO + 1 : ZERO + 1 + NEAR] += shift
    points[:, ZERO - 1 : ZERO - 1 - NEAR : -1] -= shift
    return points.astype(np.float32)


@jit
def count_offsets(
    symbols: np.ndarray, y: np.ndarray, scale: np.float32, counts: np.ndarray, offsets: np.ndarray
) -> None:
    """Add to the counts of each column, and to how far outward in their cells the near-zero values lie."""
    tokens, width = symbols.shape
    for token in range(tokens):
        for column in range(width):
            symbol = symbols[token, column]
            counts[column, symbol] += 1
            cell = np.int64(symbol) - ZERO
            distance = abs(cell)
            if 0 < distance <= NEAR:
                exact = abs(np.float64(y[token, column]) * scale)
                offsets[column, distance - 1] += exact - distance
