"""Prompts that end within a word: their last tokens are taken back, and drafts begin with tokens that spell them on.

A tokenizer would have cut the whole word differently, so a model that has to go on from a fragment is off its path.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 3
"""Tokens that have to be there to choose from before more of the word is taken back."""

MOST_TOKENS = 8


class Vocabulary:
    """Tokens in the order of their bytes.

    Parameters
    ----------
    size
        Ids go from 0 to one below.
    write
        Gives a token's bytes.
    special
        Ids that are no text.
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
    """A prompt without its last tokens, their bytes, and the tokens that may come in their place."""

    ids: list[int]
    taken: bytes
    allowed: np.ndarray


def heal(ids: Sequence[int], vocabulary: Vocabulary) -> Healed | None:
    """Take back the end of a prompt that ends within a word.

    As many tokens of the word are taken back as leave at least three tokens that begin with what was taken; the
    word's last token alone always does, or itself at least.

    Returns
    -------
    Healed or None
        None where the prompt does not end within a word, or is nothing but the word's last token.
    """
    write, best = vocabulary.write, None
    taken = b""
    for count in range(1, min(len(ids), MOST_TOKENS + 1)):
        piece = write(ids[-count])
        if not piece or piece[-1:].isspace():
            break
        taken = piece + taken
        text = _whole(taken)
        if text is not None:
            if not text[-1].isalnum():
                return None
            allowed = vocabulary.starting_with(taken)
            if len(allowed) and (best is None or len(allowed) >= FEWEST):
                best = Healed(list(ids[:-count]), taken, allowed)
        if piece[:1].isspace():  # the word's first token
            break
    return best


def _whole(taken: bytes) -> str | None:
    """Bytes as text; None where they begin or end within a character, which no draft's text could go on from."""
    try:
        return taken.decode()
    except UnicodeDecodeError:
        return None
