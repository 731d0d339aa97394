"""Suffix arrays over token ids: where the last tokens of a context occur in a corpus, and what follows them.

Documents are separated by a value that no context contains, so no match crosses from one document into the next.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from palimpsest.progress import NullProgress, Progress

DEPTH = 32
"""Suffixes are sorted by this many tokens; longer matches are not distinguished."""

TokenPosition = tuple[int, int]
"""A position in a document: its row, and the index of the token that follows a match."""

SuffixMatch = tuple[int, np.ndarray]
"""Length of a match in tokens, 0 for none, and the text position after each occurrence, int64 [occurrences]."""


class Sliced(Protocol):
    """A text of token ids plus one that can be sliced: an array, or ``Separated``."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """The ids of a slice; it may stop at the end of the document it starts in."""
        ...


class Separated:
    """A view of documents' tokens as the separated text that ``suffix_array`` sorts, without materialising it.

    Parameters
    ----------
    tokens
        Token ids of all documents, unsigned [T].
    doc_token
        First token of each document, and T; int64 [D + 1].
    """

    def __init__(self, tokens: np.ndarray, doc_token: np.ndarray) -> None:
        self._tokens, self._ends = tokens, np.asarray(doc_token[1:], np.int64)
        self.sizes = np.diff(doc_token).astype(np.int64)
        """Tokens of each document, int64 [D]."""
        self.starts = self._ends - self.sizes + np.arange(len(self.sizes))
        """Text position at which each document begins, one separator per document before it; int64 [D]."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """The ids of a slice, up to and including the first separator; int64."""
        row = int(np.searchsorted(self.starts, part.start, side="right")) - 1
        first, last = part.start - row, part.stop - row
        found = self._tokens[first : min(last, int(self._ends[row]))].astype(np.int64) + 1
        return found if last <= self._ends[row] else np.append(found, 0)


def suffix_array(tokens: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Sort the suffixes of a text by their first ``DEPTH`` tokens, by prefix doubling.

    Parameters
    ----------
    tokens
        Token ids plus one, 0 after each document; int32 [n].
    progress
        Checked for cancellation after each doubling.

    Returns
    -------
    np.ndarray
        Start of each suffix, in sorted order, uint32 [n].
    """
    progress = progress or NullProgress()
    size = len(tokens)
    rank = tokens.astype(np.int64)  # [n] rank of each suffix by its first `length` tokens
    length, order = 1, np.zeros(0, np.int64)
    while True:
        next_rank = np.zeros(size, np.int64)  # [n] rank of the suffix `length` tokens on
        next_rank[: size - length] = rank[length:]
        # A suffix that has ended sorts before longer ones; separators end suffixes.
        key = (rank << 32) | (next_rank + 1)  # [n] int64: sorts by 2 x `length` tokens
        key[max(0, size - length) :] &= ~np.int64(0xFFFFFFFF)
        order = np.argsort(key, kind="stable")  # [n] int64
        ordered = key[order]
        new_rank = np.empty(size, np.int64)
        new_rank[order] = np.concatenate(([0], np.cumsum(ordered[1:] != ordered[:-1]))) if size else 0
        rank, length = new_rank, 2 * length
        progress.check()
        if length >= DEPTH or (size and int(rank[order[-1]]) == size - 1):
            return order.astype(np.uint32)


def longest_suffix(
    tokens: Sliced, array: np.ndarray, context: np.ndarray, shortest: int, longest: int
) -> SuffixMatch:
    """Find the longest suffix of a context that occurs in a text.

    Parameters
    ----------
    tokens, array
        The text, as ``suffix_array`` takes it, and its suffix array.
    context
        Token ids (not plus one), int [n].
    shortest, longest
        Bounds of the match, in tokens; longest is at most ``DEPTH``.

    Returns
    -------
    tuple
        See ``SuffixMatch``.
    """
    pattern = np.asarray(context[-min(longest, DEPTH) :], dtype=np.int64) + 1
    low, high, best = shortest, len(pattern), (0, np.zeros(0, np.int64))
    while low <= high:  # where a suffix occurs, so do all shorter ones
        length = (low + high) // 2
        start, end = _range(tokens, array, pattern[len(pattern) - length :].tolist())
        if end > start:
            best, low = (length, array[start:end].astype(np.int64) + length), length + 1
        else:
            high = length - 1
    return best


def _range(tokens: Sliced, array: np.ndarray, pattern: list[int]) -> tuple[int, int]:
    """The range of a suffix array whose suffixes begin with a pattern, half-open."""
    size = len(pattern)

    def bound(after: bool) -> int:
        low, high = 0, len(array)
        while low < high:
            middle = (low + high) // 2
            at = int(array[middle])
            here = tokens[at : at + size].tolist()
            if here < pattern or (after and here == pattern):
                low = middle + 1
            else:
                high = middle
        return low

    return bound(False), bound(True)


def longest_suffix_flat(tokens: np.ndarray, context: np.ndarray, shortest: int, longest: int) -> SuffixMatch:
    """Like ``longest_suffix``, by scanning plain ids with a -1 after each document."""
    pattern = np.asarray(context[-min(longest, DEPTH) :])
    if len(pattern) < shortest or not len(tokens):
        return 0, np.zeros(0, np.int64)
    ends = np.flatnonzero(tokens == pattern[-1]) + 1  # [occurrences] int64: position after each match
    length = 1 if len(ends) else 0
    while length and length < len(pattern):
        longer = ends[ends > length]
        longer = longer[tokens[longer - length - 1] == pattern[-length - 1]]
        if not len(longer):
            break
        ends, length = longer, length + 1
    return (length, ends) if length >= shortest else (0, np.zeros(0, np.int64))


def longest_live(
    find: Callable[[int], SuffixMatch],
    starts: np.ndarray,
    sizes: np.ndarray,
    live: np.ndarray,
    longest: int,
    limit: int,
) -> tuple[int, list[TokenPosition]]:
    """Find the longest match that occurs in a live document and is not the document's end.

    Parameters
    ----------
    find
        Returns the longest match of at most so many tokens, over all documents.
    starts, sizes
        First text position and number of tokens of each document; int64 [D].
    live
        Whether each document is live, bool [D].
    longest
        Maximum length of the match, in tokens.
    limit
        Maximum number of occurrences to return.

    Returns
    -------
    tuple
        Length of the match, 0 for none, and the position after each occurrence.
    """
    while longest:
        length, ends = find(longest)  # [occurrences] int64
        rows = np.searchsorted(starts, ends - 1, side="right") - 1  # [occurrences] document of each match
        after = ends - starts[rows]  # [occurrences] token of the document that follows the match
        usable = np.flatnonzero(live[rows] & (after < sizes[rows]))[:limit]
        if len(usable) or not length:
            return length, list(zip(rows[usable].tolist(), after[usable].tolist(), strict=True))
        longest = length - 1  # all of these are deleted or at a document's end: try shorter matches
    return 0, []
