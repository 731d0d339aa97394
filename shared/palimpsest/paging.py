"""Answers that fit a message: what is listed is cut by bytes as well as by count."""

from collections.abc import Iterable

ANSWER_BYTES = 3 << 20
"""Bytes of listed entries in one answer, at most; gRPC takes 4 MiB, and an answer holds more than its entries."""


def fitting(sizes: Iterable[int], budget: int = ANSWER_BYTES) -> int:
    """Return how many entries of these sizes fit one answer: at least one, if there are any."""
    total = count = 0
    for size in sizes:
        total += size
        if count and total > budget:
            break
        count += 1
    return count
