"""Compiled look-ups in sorted windows: binary searches in contiguous columns, within the range of the shorter context.

``columns`` is [5, tokens] and ``starts`` [vocab_size + 1], both read-only, as in ``layout``. ``end`` is the filler:
windows that have it run past the end of their document. Every searched range lies within one given by ``starts``, which
``NgramStore.open`` has checked, so no look-up leaves the file.
"""

# ruff: noqa: ANN001, ANN201, ANN202, D417 - typed by numba, not by annotations

import numpy as np

from palimpsest.compiled import njit


@njit()
def _first(column, low, high, token):
    """The first window of [low, high) whose token is not below ``token``."""
    while low < high:
        middle = (low + high) >> 1
        if column[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low


@njit()
def _range(starts, columns, context, begin, size):
    """Windows [low, high) that begin with ``size`` tokens of a context, from its token ``begin`` on."""
    vocabulary = len(starts) - 1
    if size == 0:
        return np.int64(0), np.int64(columns.shape[1])
    token = context[begin]
    if token < 0 or token >= vocabulary:
        return np.int64(0), np.int64(0)
    low, high = np.int64(starts[token]), np.int64(starts[token + 1])
    for i in range(1, size):
        token = context[begin + i]
        if token < 0 or token >= vocabulary or low == high:
            return np.int64(0), np.int64(0)
        column = columns[i - 1]
        low = _first(column, low, high, token)
        high = _first(column, low, high, token + 1)
    return low, high


@njit()
def mix(starts, columns, end, contexts, candidates, weights, out):
    """out[d, c] += sum over orders of weight * share of candidate c among the tokens after draft d's last ones.

    Parameters
    ----------
    contexts
        int32 [k, 5], right-aligned, -1 where there is no token.
    candidates, weights
        int32 [c]; float64 [5].
    out
        float64 [k, c], zeros.
    """
    vocabulary = len(starts) - 1
    longest = contexts.shape[1]
    left = np.empty(len(candidates), dtype=np.int64)
    for d in range(len(contexts)):
        count = 0
        for c in range(len(candidates)):
            if 0 <= candidates[c] < vocabulary:
                left[count] = c
                count += 1
        for size in range(1, longest + 1):
            low, high = _range(starts, columns, contexts[d], longest - size, size)
            column = columns[size - 1]
            high = _first(column, low, high, end)
            if low == high:
                break  # a longer context is seen nowhere that this one is not
            share = weights[size - 1] / (high - low)
            still = 0
            for i in range(count):
                token = np.int64(candidates[left[i]])
                found = _first(column, low, high, token)
                if found < high and column[found] == token:
                    out[d, left[i]] += share * (_first(column, found, high, token + 1) - found)
                    left[still] = left[i]
                    still += 1
            count = still  # nor does what never follows this one follow a longer one


@njit()
def count(starts, columns, end, context, candidates, out):
    """Count each candidate after a context of at most five tokens; returns the count of all tokens after it."""
    vocabulary = len(starts) - 1
    size = len(context)
    if size == 0:
        for c in range(len(candidates)):
            token = np.int64(candidates[c])
            if 0 <= token < vocabulary:
                out[c] = np.int64(starts[token + 1]) - np.int64(starts[token])
        return np.int64(columns.shape[1])
    low, high = _range(starts, columns, context, 0, size)
    column = columns[size - 1]
    high = _first(column, low, high, end)
    for c in range(len(candidates)):
        token = np.int64(candidates[c])
        if 0 <= token < vocabulary:
            found = _first(column, low, high, token)
            out[c] = _first(column, found, high, token + 1) - found
    return high - low


@njit()
def runs(starts, columns, end, context, tokens, counts):
    """Every token after a context of one to five tokens, ascending, with its count; returns how many there are."""
    size = len(context)
    low, high = _range(starts, columns, context, 0, size)
    column = columns[size - 1]
    high = _first(column, low, high, end)
    found = 0
    while low < high:
        token = np.int64(column[low])
        after = _first(column, low, high, token + 1)
        tokens[found], counts[found] = token, after - low
        found, low = found + 1, after
    return found


@njit()
def seen(starts, columns, end, ids, size):
    """How many positions of ids, from ``size`` on, come after ``size`` tokens that have a continuation."""
    found = 0
    for at in range(size, len(ids)):
        low, high = _range(starts, columns, ids, at - size, size)
        if size == 0:
            found += high > low
        elif low < _first(columns[size - 1], low, high, end):
            found += 1
    return found
