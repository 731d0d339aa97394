"""Suffix arrays over token ids: where the last tokens of a context stand in a corpus, and what follows there.

Documents are separated by a value that no context holds, so that no match runs from one into the next.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from palimpsest.progress import NullProgress, Progress

DEPTH = 32
"""Tokens by which suffixes are sorted; longer matches are not told apart."""

Occurrences = tuple[int, int]
"""Document row, and the token of the document that follows the match."""

Matches = tuple[int, np.ndarray]
"""Tokens of a match, 0 for none, and the positions after it in a text, int64 [hits]."""


class Sliced(Protocol):
    """A text of token ids plus one, of which stretches are read: an array, or ``Separated``."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """The ids of a stretch; it may end with the document it begins in."""
        ...


class Separated:
    """Documents' tokens as the text that a suffix array is of, without holding that text: see ``suffix_array``.

    Parameters
    ----------
    tokens
        Ids of all documents, one after another, unsigned [T].
    doc_token
        Where each document begins, and T; [D + 1].
    """

    def __init__(self, tokens: np.ndarray, doc_token: np.ndarray) -> None:
        self._tokens, self._ends = tokens, np.asarray(doc_token[1:], np.int64)
        self.sizes = np.diff(doc_token).astype(np.int64)
        """Tokens of each document, int64 [D]."""
        self.starts = self._ends - self.sizes + np.arange(len(self.sizes))
        """Where each document begins in the text, with a separator after each before it; int64 [D]."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """The ids of a stretch up to the first separator, itself included; int64."""
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
        Asked whether to go on.

    Returns
    -------
    np.ndarray
        Start of each suffix, in order, uint32 [n].
    """
    progress = progress or NullProgress()
    size = len(tokens)
    rank = tokens.astype(np.int64)
    length, order = 1, np.zeros(0, np.int64)
    while True:
        behind = np.zeros(size, np.int64)
        behind[: size - length] = rank[length:]
        # A suffix that has ended sorts before those that go on; separators end suffixes.
        key = (rank << 32) | (behind + 1)
        key[max(0, size - length) :] &= ~np.int64(0xFFFFFFFF)
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        fresh = np.empty(size, np.int64)
        fresh[order] = np.concatenate(([0], np.cumsum(ordered[1:] != ordered[:-1]))) if size else 0
        rank, length = fresh, 2 * length
        progress.check()
        if length >= DEPTH or (size and int(rank[order[-1]]) == size - 1):
            return order.astype(np.uint32)


def longest_suffix(
    tokens: Sliced, array: np.ndarray, context: np.ndarray, shortest: int, longest: int
) -> Matches:
    """Find the longest suffix of a context that stands in a text.

    Parameters
    ----------
    tokens, array
        The text (as ``suffix_array`` takes it) and its suffix array.
    context
        Token ids (not plus one), int [n].
    shortest, longest
        Bounds of the match, in tokens; longest is at most ``DEPTH``.

    Returns
    -------
    tuple
        See ``Matches``.
    """
    pattern = np.asarray(context[-min(longest, DEPTH) :], dtype=np.int64) + 1
    low, high, best = shortest, len(pattern), (0, np.zeros(0, np.int64))
    while low <= high:  # if a suffix stands there, so do all shorter ones
        length = (low + high) // 2
        start, end = _range(tokens, array, pattern[len(pattern) - length :].tolist())
        if end > start:
            best, low = (length, array[start:end].astype(np.int64) + length), length + 1
        else:
            high = length - 1
    return best


def _range(tokens: Sliced, array: np.ndarray, pattern: list[int]) -> tuple[int, int]:
    """The stretch of a suffix array whose suffixes begin with a pattern."""
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


def longest_suffix_flat(tokens: np.ndarray, context: np.ndarray, shortest: int, longest: int) -> Matches:
    """As ``longest_suffix``, over plain ids with -1 after each document and without an array."""
    pattern = np.asarray(context[-min(longest, DEPTH) :])
    if len(pattern) < shortest or not len(tokens):
        return 0, np.zeros(0, np.int64)
    ends = np.flatnonzero(tokens == pattern[-1]) + 1
    length = 1 if len(ends) else 0
    while length and length < len(pattern):
        longer = ends[ends > length]
        longer = longer[tokens[longer - length - 1] == pattern[-length - 1]]
        if not len(longer):
            break
        ends, length = longer, length + 1
    return (length, ends) if length >= shortest else (0, np.zeros(0, np.int64))


def longest_live(
    find: Callable[[int], Matches],
    starts: np.ndarray,
    sizes: np.ndarray,
    alive: np.ndarray,
    longest: int,
    limit: int,
) -> tuple[int, list[Occurrences]]:
    """Find the longest match that stands in a live document and is not its end.

    Parameters
    ----------
    find
        Gives the longest match of at most so many tokens, in all documents.
    starts, sizes
        Of each document: its first position in the text and its tokens; int64 [D].
    alive
        Which documents are there, bool [D].
    longest
        Most tokens of the match.
    limit
        Most occurrences to return.

    Returns
    -------
    tuple
        Length of the match, 0 for none, and where it stands.
    """
    while longest:
        length, ends = find(longest)
        rows = np.searchsorted(starts, ends - 1, side="right") - 1
        after = ends - starts[rows]
        usable = np.flatnonzero(alive[rows] & (after < sizes[rows]))[:limit]
        if len(usable) or not length:
            return length, list(zip(rows[usable].tolist(), after[usable].tolist(), strict=True))
        longest = length - 1  # all of these are deleted, or end there: a shorter match may go on
    return 0, []
