"""Spans: which tokens to propose, how many, and how many of them to accept."""

from collections.abc import Callable, Sequence

import numpy as np

from palimpsest.candidates.block import Candidates

LENGTHS = (3, 7, 15, 31, 63, 127, 255)
"""Lengths of proposals: with the token before them they fill whole tiles of rows."""

_START = 7


def take_while(accept: np.ndarray) -> int:
    """Number of leading entries of bool [n] that are true."""
    return len(accept) if accept.all() else int(accept.argmin())


def relaxed(
    probability: np.ndarray, best: np.ndarray, gamma: float, draws: np.ndarray | None = None
) -> np.ndarray:
    """Which proposed tokens are acceptable (paper, section 3.4).

    Parameters
    ----------
    probability
        float [n]: of each proposed token under the mixture.
    best
        float [n]: of the most probable token at its position.
    gamma
        Leniency.
    draws
        float [n] in [0, 1): accept with probability ``min(1, p / (gamma best))``. None: accept where that is above 0.5.

    Returns
    -------
    numpy.ndarray
        bool [n].
    """
    share = np.minimum(1.0, probability / np.maximum(gamma * best, 1e-30))
    return share > 0.5 if draws is None else draws < share


def proposal_positions(block: Candidates, start: int, length: int, usable: np.ndarray) -> np.ndarray:
    """Positions ``start, start + 1, ...`` to propose: at most ``length``, within the passage, while they are usable.

    Parameters
    ----------
    block
        Of T tokens.
    start, length
        The first position, and the maximum number of positions.
    usable
        bool [T].

    Returns
    -------
    numpy.ndarray
        int64 [n], n >= 0.
    """
    if not 0 <= start < len(block) or length <= 0:
        return np.zeros(0, dtype=np.int64)
    end = int(block.first[np.searchsorted(block.first, start, side="right")])
    end = min(end, start + length)
    return np.arange(start, start + take_while(usable[start:end]))


class DraftLength:
    """How many tokens to propose next.

    Chooses the length with the most expected tokens for the cost of its pass. If each token is accepted with
    probability a, n proposed tokens yield ``(1 - a^(n + 1)) / (1 - a)`` tokens. Lengths double while whole proposals
    are accepted.

    Parameters
    ----------
    most
        Longest proposal.
    """

    def __init__(self, most: int = 64) -> None:
        self._most, self._cap = most, _START
        self._taken, self._seen = 7.0, 8.0

    def saw(self, proposed: int, taken: int) -> None:
        """Take note of a proposal and of how much of it was taken."""
        if proposed <= 0:
            return
        full = taken == proposed
        self._cap = 2 * self._cap + 1 if full and proposed >= min(self._cap, self._most) else self._cap
        if not full:
            self._cap = max(LENGTHS[0], 2 * taken + 2)
        self._cap = min(self._cap, LENGTHS[-1])
        self._taken = 0.8 * self._taken + taken
        self._seen = 0.8 * self._seen + taken + (not full)

    def __call__(self, cost: Callable[[int], float]) -> int:
        """Return how many tokens to propose; ``cost`` gives a step of n rows over one of a single row."""
        cap = min(self._cap, self._most)
        rate = min(0.999, self._taken / self._seen)
        choices = [n for n in LENGTHS if n < cap] + [cap]
        return max(choices, key=lambda n: (1 - rate ** (n + 1)) / (1 - rate) / cost(n + 1))


class SuffixMatch:
    """For every position of a block, the length of the match between the tokens before it and the end of the text.

    Parameters
    ----------
    block
        With T tokens; a match never extends before its passage's first token.
    """

    LEAST = 2
    """Shortest match that makes a proposal."""

    MOST = 64

    def __init__(self, block: Candidates) -> None:
        self._tokens = block.tokens
        self._lengths = np.zeros(len(block) + 1, dtype=np.int32)
        # A match at a passage's end would continue in the next passage, which is another text.
        self._begins = block.first.astype(np.int64)
        scores = np.array([p.score for p in block.passages], dtype=np.float64)
        best = scores.max(initial=1e-300)
        self._tie = np.append(0.5 * (scores / best)[block.passage_of()], 0.0) if len(scores) else np.zeros(1)

    def push(self, token: int) -> None:
        """Add a token to the text."""
        matches = self._tokens == token
        self._lengths[1:] = np.where(matches, np.minimum(self._lengths[:-1] + 1, self.MOST), 0)
        self._lengths[self._begins] = 0

    def extend(self, tokens: Sequence[int]) -> None:
        """Add several tokens; only the last ones can matter."""
        for token in tokens[-self.MOST :]:
            self.push(token)

    def best(self, usable: np.ndarray) -> int:
        """The usable position after the longest match, by passage score among equals; -1 if none is long enough."""
        lengths = np.where(usable, self._lengths[:-1], 0)
        if not len(lengths) or lengths.max() < self.LEAST:
            return -1
        return int((lengths + self._tie[:-1]).argmax())
