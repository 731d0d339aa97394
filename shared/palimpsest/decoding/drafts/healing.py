"""Token healing: the last tokens of a prompt that ends within a word are removed, and drafts begin with their text.

A tokenizer would have split the whole word differently, so a model that continues a fragment is off its distribution.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 3
"""Minimum number of first tokens to choose from; fewer tokens of the word are removed if they leave that many."""

MOST_TOKENS = 8


class Vocabulary:
    """The vocabulary, sorted by bytes.

    Parameters
    ----------
    size
        Number of ids.
    write
        Returns a token's bytes.
    special
        Ids that contribute no text.
    """

    def __init__(self, size: int, write: Callable[[int], bytes], special: frozenset[int]) -> None:
        pairs = sorted((write(token), token) for token in range(size) if token not in special)
        self._bytes = [text for text, _ in pairs if text]
        self._ids = np.array([token for text, token in pairs if text], dtype=np.int64)
        self.write = write

    def starting_with(self, prefix: bytes) -> np.ndarray:
        """Ids of the tokens that begin with some bytes, ascending."""
        first = bisect_left(self._bytes, prefix)
        last = first
        while last < len(self._bytes) and self._bytes[last].startswith(prefix):
            last += 1
        return np.sort(self._ids[first:last])


@dataclass(frozen=True)
class Healed:
    """A prompt without its last tokens, the bytes of these, and the tokens that may replace them."""

    ids: list[int]
    taken: bytes
    allowed: np.ndarray


def heal(ids: Sequence[int], vocabulary: Vocabulary) -> Healed | None:
    """Remove the last tokens of a prompt that ends within a word.

    Removes as many tokens of the word as possible while at least three tokens begin with the removed bytes; at least
    the word's last token, even if fewer do.

    Returns
    -------
    Healed or None
        None where the prompt does not end within a word, or consists of the word's last token only.
    """
    write, best = vocabulary.write, None
    taken = b""
    for count in range(1, min(len(ids), MOST_TOKENS + 1)):
        token_text = write(ids[-count])
        if not token_text or token_text[-1:].isspace():
            break
        taken = token_text + taken
        text = _whole(taken)
        if text is not None:
            if not text[-1].isalnum():
                return None
            allowed = vocabulary.starting_with(taken)
            if len(allowed) and (best is None or len(allowed) >= FEWEST):
                best = Healed(list(ids[:-count]), taken, allowed)
        if token_text[:1].isspace():  # the word's first token
            break
    return best


def _whole(taken: bytes) -> str | None:
    """Bytes as text; None where they begin or end within a character, which no draft could continue."""
    try:
        return taken.decode()
    except UnicodeDecodeError:
        return None
