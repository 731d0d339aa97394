"""Applying a grammar's mask of allowed tokens to one row of logits, compiled."""

# ruff: noqa: ANN001, ANN201 - compiled functions are typed by numba, not by annotations

import numpy as np

from palimpsest.compiled import njit


@njit()
def keep_allowed(logits, words):
    """Set logits to -inf, in place, except where bit i % 32 of words[i // 32] is set."""
    never, size = np.float32(-np.inf), len(logits)
    for at in range((size + 31) // 32):
        word = words[at] if at < len(words) else np.uint32(0)
        if word == np.uint32(0xFFFFFFFF):
            continue
        first = at * 32
        last = min(first + 32, size)
        if word == np.uint32(0):
            for i in range(first, last):
                logits[i] = never
        else:
            for i in range(first, last):
                if not (word >> np.uint32(i - first)) & np.uint32(1):
                    logits[i] = never
