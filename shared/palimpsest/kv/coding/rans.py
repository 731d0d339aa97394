"""Interleaved range asymmetric numeral systems (rANS): symbols to bits and back, in integers only.

One stream codes a matrix of byte symbols ``[tokens, width]``, row by row. Column ``c`` has the frequency table
``classes[c]`` and belongs to lane ``c % LANES``; each lane is a 32-bit state that takes 16-bit words from one
shared sequence, in column order. Every operation is an integer one, so that the same symbols give the same bytes on
every machine. The loops are compiled with numba, which releases the GIL: streams can be coded in parallel
threads. Without numba a numpy version runs the same algorithm a block of lanes at a time.

Stream: ``LANES`` little-endian u32 states, then little-endian u16 words.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from palimpsest.errors import DataLoss, InvalidArgument, Reason
from palimpsest.kv.coding.tables import PROBABILITY_BITS, TOTAL, Tables

try:
    from palimpsest.compiled import njit
except ImportError:  # the numpy version below stands in: slow, the same bytes
    njit = None

LANES = 32
STATE_FLOOR = 1 << 16
_STATE_BYTES = 4 * LANES

compiled = njit is not None
"""Whether numba is here. Without it coding is some hundred times slower."""


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with numba where it is installed, once for all runs, without the GIL; else return as is."""
    return njit()(function) if njit is not None else function


def least_bytes(symbols: int) -> int:
    """Return the fewest bytes a stream of so many symbols can have.

    Where every symbol is codable, as ``frequencies_from_counts`` sees to, none has a share above 3841 of 4096, and
    takes 0.093 bits; the coder's rounding gives back at most 0.006 of them. A twelfth of a bit is safe. What the
    states themselves hold, 16 bits each, is taken off.
    """
    return _STATE_BYTES + max(0, symbols // 12 - 16 * LANES) // 8


def encode(symbols: np.ndarray, classes: np.ndarray, tables: Tables) -> bytes:
    """Code a matrix of symbols into one stream.

    Parameters
    ----------
    symbols
        ``[tokens, width]`` uint8.
    classes
        ``[width]`` uint8, the table of each column.
    tables
        The frequencies, the same at both ends.

    Returns
    -------
    bytes
        The stream.

    Raises
    ------
    InvalidArgument
        A symbol has frequency 0 in its table.
    """
    symbols = np.ascontiguousarray(symbols, dtype=np.uint8)
    classes = np.ascontiguousarray(classes, dtype=np.uint8)
    words = np.empty(symbols.size, dtype=np.uint16)
    states = np.full(LANES, STATE_FLOOR, dtype=np.uint32)
    run = _encode_lanes if compiled else _encode_blocks
    first = int(run(symbols, classes, tables.frequencies, tables.starts, words, states))
    if first < 0:
        raise InvalidArgument(
            Reason.KV_PROFILE_INVALID, "A symbol has no room in its frequency table; recalibrate the profile."
        )
    return states.astype("<u4").tobytes() + words[first:].astype("<u2").tobytes()


def decode(stream: bytes | memoryview, tokens: int, classes: np.ndarray, tables: Tables) -> np.ndarray:
    """Read back a matrix of symbols.

    Parameters
    ----------
    stream
        What ``encode`` returned.
    tokens
        Rows of the matrix.
    classes
        ``[width]`` uint8, the table of each column.
    tables
        The frequencies it was coded with.

    Returns
    -------
    numpy.ndarray
        ``[tokens, width]`` uint8.

    Raises
    ------
    DataLoss
        The stream is too short or too long, or does not end in the state it was begun in.
    """
    # Writable, though nothing writes: numba compiles anew for what is not.
    classes = np.require(classes, np.uint8, ["C", "W"])
    if len(stream) < _STATE_BYTES or len(stream) % 2:
        raise DataLoss(Reason.KV_DAMAGED, "An entropy-coded section is cut short; fetch the chunk again.")
    states = np.frombuffer(stream, dtype="<u4", count=LANES).astype(np.uint32)
    words = np.frombuffer(stream, dtype="<u2", offset=_STATE_BYTES).astype(np.uint16, copy=False)
    if (states < STATE_FLOOR).any():
        raise DataLoss(Reason.KV_DAMAGED, "Corrupt entropy-coded section: invalid rANS state.")
    # A row takes at most one word for each column: the pad lets the compiled loop check once a row.
    padded = np.concatenate([words, np.zeros(len(classes), dtype=np.uint16)])
    out = np.empty((tokens, len(classes)), dtype=np.uint8)
    run = _decode_lanes if compiled else _decode_blocks
    taken = int(run(padded, len(words), states, classes, tables.symbols, tables.ranges, out))
    if taken != len(words) or (states != STATE_FLOOR).any():
        raise DataLoss(
            Reason.KV_DAMAGED,
            "Corrupt entropy-coded section: it does not end in the initial state; fetch it again.",
        )
    return out


@jit
def _encode_lanes(
    symbols: np.ndarray,
    classes: np.ndarray,
    frequencies: np.ndarray,
    starts: np.ndarray,
    words: np.ndarray,
    states: np.ndarray,
) -> int:
    """Code from the last symbol to the first; words fill from the back. Returns the first word used, or -1."""
    tokens, width = symbols.shape
    position = words.shape[0]
    for token in range(tokens - 1, -1, -1):
        for column in range(width - 1, -1, -1):
            symbol = symbols[token, column]
            table = classes[column]
            frequency = np.uint64(frequencies[table, symbol])
            if frequency == np.uint64(0):
                return -1
            lane = column & (LANES - 1)
            state = np.uint64(states[lane])
            if state >= (frequency << np.uint64(32 - PROBABILITY_BITS)):
                position -= 1
                words[position] = np.uint16(state & np.uint64(0xFFFF))
                state >>= np.uint64(16)
            quotient = np.uint64(np.uint32(state) // np.uint32(frequency))
            remainder = state - quotient * frequency
            states[lane] = np.uint32(
                (quotient << np.uint64(PROBABILITY_BITS)) + remainder + np.uint64(starts[table, symbol])
            )
    return position


@jit
def _decode_lanes(
    words: np.ndarray,
    count: int,
    states: np.ndarray,
    classes: np.ndarray,
    symbols: np.ndarray,
    ranges: np.ndarray,
    out: np.ndarray,
) -> int:
    """Decode a block of lanes at a time: first every look-up, then every refill. Returns the words taken.

    The look-ups do not depend on each other, and one refill in ten is seldom enough for the processor to guess.
    Unsigned indices spare numba the test for negative ones.
    """
    tokens, width = out.shape
    bits, mask = np.uint32(PROBABILITY_BITS), np.uint32(TOTAL - 1)
    flat_symbols, flat_ranges = symbols.ravel(), ranges.ravel()
    own = states.copy()
    position = np.uint64(0)
    for token in range(tokens):
        if position > np.uint64(count):
            return -1
        row = out[token]
        for block in range(np.uint64(0), np.uint64(width), np.uint64(LANES)):
            lanes = min(np.uint64(LANES), np.uint64(width) - block)
            for lane in range(lanes):
                state = own[lane]
                value = state & mask
                table = np.uint32(classes[block + lane])
                symbol = flat_symbols[(table << bits) + value]
                row[block + lane] = symbol
                span = flat_ranges[(table << np.uint32(8)) + np.uint32(symbol)]
                own[lane] = np.uint32(
                    np.uint32(span & np.uint32(0xFFFF)) * np.uint32(state >> bits)
                    + value
                    - np.uint32(span >> np.uint32(16))
                )
            for lane in range(lanes):
                state = own[lane]
                if state < np.uint32(STATE_FLOOR):
                    own[lane] = np.uint32((state << np.uint32(16)) | np.uint32(words[position]))
                    position += np.uint64(1)
    states[:] = own
    return int(position)


def _encode_blocks(
    symbols: np.ndarray,
    classes: np.ndarray,
    frequencies: np.ndarray,
    starts: np.ndarray,
    words: np.ndarray,
    states: np.ndarray,
) -> int:
    """Do what ``_encode_lanes`` does, a block of lanes in one numpy step."""
    tokens, width = symbols.shape
    position = len(words)
    blocks = range(0, width, LANES)
    for token in range(tokens - 1, -1, -1):
        for block in reversed(blocks):
            lanes = slice(0, min(LANES, width - block))
            symbol = symbols[token, block : block + lanes.stop]
            table = classes[block : block + lanes.stop]
            frequency = frequencies[table, symbol].astype(np.uint64)
            if not frequency.all():
                return -1
            state = states[lanes].astype(np.uint64)
            full = state >= frequency << np.uint64(32 - PROBABILITY_BITS)
            spilled = (state[full] & np.uint64(0xFFFF)).astype(np.uint16)
            words[position - len(spilled) : position] = spilled
            position -= len(spilled)
            state = np.where(full, state >> np.uint64(16), state)
            quotient, remainder = np.divmod(state, frequency)
            states[lanes] = (quotient << np.uint64(PROBABILITY_BITS)) + remainder + starts[table, symbol]
    return position


def _decode_blocks(
    words: np.ndarray,
    count: int,
    states: np.ndarray,
    classes: np.ndarray,
    symbols: np.ndarray,
    ranges: np.ndarray,
    out: np.ndarray,
) -> int:
    """Do what ``_decode_lanes`` does, a block of lanes in one numpy step."""
    tokens, width = out.shape
    position = 0
    for token in range(tokens):
        if position > count:
            return -1
        for block in range(0, width, LANES):
            lanes = slice(0, min(LANES, width - block))
            state, table = states[lanes], classes[block : block + lanes.stop]
            value = state & (TOTAL - 1)
            symbol = symbols[table, value]
            out[token, block : block + lanes.stop] = symbol
            span = ranges[table, symbol]
            state = (span & 0xFFFF) * (state >> PROBABILITY_BITS) + value - (span >> 16)
            low = state < STATE_FLOOR
            refill = words[position : position + int(low.sum())].astype(np.uint32)
            state[low] = state[low] << 16 | refill
            states[lanes] = state
            position += len(refill)
    return position
