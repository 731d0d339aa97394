"""Applying a grammar's mask of allowed tokens to one row of logits, compiled."""

# ruff: noqa: ANN001, ANN201 - compiled functions are typed by numba, not by annotations

import numpy as np

from palimpsest.compiled import njit


@njit()
def keep_allowed(logits, words, out):
    """Out = logits where bit i % 32 of words[i // 32] is set, else -inf; what is past the words is not allowed."""
    never, size = np.float32(-np.inf), len(logits)
    for at in range((size + 31) // 32):
        first = at * 32
        last = min(first + 32, size)
        word = words[at] if at < len(words) else np.uint32(0)
        if word == np.uint32(0):
            for i in range(first, last):
                out[i] = never
        elif word == np.uint32(0xFFFFFFFF):
            for i in range(first, last):
                out[i] = logits[i]
        else:
            for i in range(first, last):
                allowed = (word >> np.uint32(i - first)) & np.uint32(1)
                out[i] = logits[i] if allowed else never
