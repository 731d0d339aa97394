"""Coefficients to symbols and back: uniform cells, one byte a symbol, and an escape for cells outside a byte."""

import zlib

import numpy as np

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.kv.coding.rans import decode, encode, jit
from palimpsest.kv.coding.tables import ALPHABET, Tables
from palimpsest.kv.header import Buffer, damaged

ZERO = 128
"""The symbol of the cell around zero; symbol ``s`` is cell ``s - ZERO``."""
ESCAPE = 0
"""The symbol that stands for any cell outside -127..127; its number follows apart."""


def quantise(coefficients: np.ndarray, step: float, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """Put coefficients into cells.

    Parameters
    ----------
    coefficients
        ``[tokens, width]`` float32.
    step
        Width of a cell.
    kept
        Columns to code.

    Returns
    -------
    tuple
        Symbols ``[tokens, kept]`` uint8, and the cells of the escapes in reading order, int32.

    Raises
    ------
    InvalidArgument
        A coefficient lies more than 2**31 cells away.
    """
    symbols = np.empty((len(coefficients), kept), dtype=np.uint8)
    escapes = int(_cells(coefficients, np.float32(1.0 / step), symbols))
    if not escapes:
        return symbols, np.empty(0, dtype=np.int32)
    where = symbols == ESCAPE
    cells = np.rint(coefficients[:, :kept][where].astype(np.float64) / step)
    if not (np.abs(cells) < 2**31).all():
        raise InvalidArgument(
            Reason.KV_NOT_FINITE,
            "The cache has elements too far from all others for this level; only the lossless level carries those.",
        )
    return symbols, cells.astype(np.int32)


def dequantise(
    symbols: np.ndarray, escapes: np.ndarray, step: float, classes: np.ndarray, centres: np.ndarray
) -> np.ndarray:
    """Return the values at the centres of cells.

    Parameters
    ----------
    symbols
        ``[tokens, width]`` uint8.
    escapes
        What ``quantise`` returned beside them.
    step
        Width of a cell.
    classes
        ``[width]`` uint8, the row of ``centres`` for each column.
    centres
        ``[tables, 256]`` float32, in cells.

    Returns
    -------
    numpy.ndarray
        ``[tokens, width]`` float32.
    """
    out = np.empty(symbols.shape, dtype=np.float32)
    _look_up(symbols, classes, centres * np.float32(step), out)
    if len(escapes):
        out[symbols == ESCAPE] = escapes.astype(np.float32) * np.float32(step)
    return out


def measure_error(
    coefficients: np.ndarray,
    symbols: np.ndarray,
    step: float,
    classes: np.ndarray,
    centres: np.ndarray,
    units: np.ndarray,
) -> tuple[float, float]:
    """Return the sum of squares and the largest of the errors that quantising made.

    Parameters
    ----------
    coefficients
        ``[tokens, width]`` float32; columns beyond the symbols' count as quantised to zero.
    symbols, step, classes, centres
        As in ``dequantise``.
    units
        ``[width]`` float32, what an error in each column is multiplied by.
    """
    total, worst = _measure(coefficients, symbols, np.float32(step), classes, centres, units)
    return float(total), float(worst)


def pack_symbols(symbols: np.ndarray, escapes: np.ndarray, classes: np.ndarray, tables: Tables) -> bytes:
    """Code symbols and escapes into one payload: count of escapes, escapes, entropy-coded symbols."""
    head = np.uint32(len(escapes)).astype("<u4").tobytes() + escapes.astype("<i4").tobytes()
    return head + encode(symbols, classes, tables)


def unpack_symbols(
    payload: Buffer, tokens: int, classes: np.ndarray, tables: Tables
) -> tuple[np.ndarray, np.ndarray]:
    """Read back what ``pack_symbols`` wrote.

    Raises
    ------
    DataLoss
        The payload is cut short, or holds more or fewer escapes than its symbols ask for.
    """
    view = memoryview(payload)
    if len(view) < 4:
        raise damaged("A section is cut short; fetch the chunk again.")
    count = int.from_bytes(view[:4], "little")
    if count > tokens * len(classes) or 4 + 4 * count > len(view):
        raise damaged("A section claims more escapes than it has room for; fetch the chunk again.")
    escapes = np.frombuffer(view, dtype="<i4", count=count, offset=4)
    symbols = decode(view[4 + 4 * count :], tokens, classes, tables)
    if count != int(np.count_nonzero(symbols == ESCAPE)):
        raise damaged("A section's escapes do not match its symbols; fetch the chunk again.")
    return symbols, escapes


def symbol_checksum(symbols: np.ndarray, escapes: np.ndarray, before: int = 0) -> int:
    """Return the CRC-32 of what was quantised: integers, which any decoder reproduces exactly."""
    return zlib.crc32(escapes.astype("<i4").tobytes(), zlib.crc32(np.ascontiguousarray(symbols).data, before))


def plain_centres(tables: int) -> np.ndarray:
    """Return reconstruction at the middle of each cell, ``[tables, 256]`` float32."""
    return np.tile(np.arange(ALPHABET, dtype=np.float32) - ZERO, (tables, 1))


@jit
def count_symbols(symbols: np.ndarray, counts: np.ndarray) -> None:
    """Add symbols ``[tokens, width]`` to the counts of their columns ``[width, 256]``."""
    tokens, width = symbols.shape
    for token in range(tokens):
        for column in range(width):
            counts[column, symbols[token, column]] += 1


def choose_classes(
    counts: np.ndarray, classes: int, *, rounds: int = 4, mirrored: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Share a few tables among many columns: assign by ideal code length, sum the counts, repeat (Lloyd's method).

    Parameters
    ----------
    counts
        ``[columns, 256]`` counts of each column's symbols.
    classes
        Tables to share.
    rounds
        Times to assign.
    mirrored
        Whether a cell and its opposite count as one.

    Returns
    -------
    tuple
        Class of each column, uint8, and the counts of each class ``[classes, 256]``, scaled to int64.
    """
    symmetric = _mirror(counts.astype(np.float64)) if mirrored else counts.astype(np.float64)
    spread = symmetric @ np.abs(np.arange(ALPHABET) - ZERO) / np.maximum(symmetric.sum(1), 1)
    order = np.argsort(np.argsort(spread, kind="stable"), kind="stable")
    assigned = (order * classes // len(counts)).astype(np.uint8)
    total = np.zeros((classes, ALPHABET))
    for _ in range(rounds):
        total = np.zeros((classes, ALPHABET))
        np.add.at(total, assigned, symmetric)
        smooth = total + _prior(total)
        cost = -np.log2(smooth / smooth.sum(1, keepdims=True))
        assigned = np.argmin(symmetric @ cost.T, axis=1).astype(np.uint8)
    total = np.zeros((classes, ALPHABET))
    np.add.at(total, assigned, symmetric)
    return assigned, np.rint(1024 * (total + _prior(total))).astype(np.int64)


def _mirror(counts: np.ndarray) -> np.ndarray:
    """Average the counts of a cell and its opposite; the escape has none."""
    both = counts.copy()
    both[:, 1:] = (counts[:, 1:] + counts[:, :0:-1]) / 2
    return both


def _prior(total: np.ndarray) -> np.ndarray:
    """Counts to add so that cells beyond those seen stay codable: a tail that falls off with the class's spread."""
    away = np.abs(np.arange(ALPHABET) - ZERO)
    spread = (total @ away) / np.maximum(total.sum(1), 1) + 0.05
    tail = np.exp(-away[None, :] / (2.0 * spread[:, None])) + 1e-4
    tail[:, ESCAPE] = 1e-2
    return tail


@jit
def _cells(coefficients: np.ndarray, scale: np.float32, symbols: np.ndarray) -> int:
    tokens, kept = symbols.shape
    escapes = 0
    for token in range(tokens):
        for column in range(kept):
            cell = np.rint(coefficients[token, column] * scale)
            inside = np.abs(cell) <= np.float32(127)
            escapes += not inside
            symbols[token, column] = np.uint8(np.int32(cell) + 128) if inside else np.uint8(0)
    return escapes


@jit
def _measure(
    coefficients: np.ndarray,
    symbols: np.ndarray,
    step: np.float32,
    classes: np.ndarray,
    centres: np.ndarray,
    units: np.ndarray,
) -> tuple[float, float]:
    tokens, width = coefficients.shape
    kept = symbols.shape[1]
    total = 0.0
    worst = 0.0
    for token in range(tokens):
        for column in range(width):
            value = coefficients[token, column]
            rebuilt = np.float32(0)
            if column < kept:
                symbol = symbols[token, column]
                rebuilt = (np.rint(value / step) if symbol == 0 else centres[classes[column], symbol]) * step
            error = abs(value - rebuilt) * units[column]
            total += error * error
            worst = max(worst, error)
    return total, worst


@jit
def _look_up(symbols: np.ndarray, classes: np.ndarray, centres: np.ndarray, out: np.ndarray) -> None:
    tokens, width = symbols.shape
    for token in range(tokens):
        for column in range(width):
            out[token, column] = centres[classes[column], symbols[token, column]]
