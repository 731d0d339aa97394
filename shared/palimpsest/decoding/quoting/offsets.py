"""Where each generated token is in the text."""

from collections.abc import Callable, Collection
from typing import Any

from palimpsest.lm.detokenizer import Detokenizer


class OffsetDetokenizer(Detokenizer):
    """A detokenizer that knows where each token's bytes are in the text.

    Parameters
    ----------
    tokenizer
        transformers' own.
    write
        Returns the bytes of a token.
    special
        Ids that contribute no text.

    Attributes
    ----------
    starts, ends
        Byte offsets of each token in the whole text.
    """

    def __init__(self, tokenizer: Any, write: Callable[[int], bytes], special: Collection[int]) -> None:
        super().__init__(tokenizer)
        self._write, self._special = write, special
        self.starts: list[int] = []
        self.ends: list[int] = []
        self._at = self._decoded = self._certain = 0

    def push(self, token: int) -> str:
        """Add a token; returns the text that has become certain."""
        self.starts.append(self._at)
        self._at += 0 if token in self._special else len(self._write(token))
        self.ends.append(self._at)
        text = super().push(token)
        if text:
            self._decoded += len(text.encode())
            self._anchor()
        return text

    def _anchor(self) -> None:
        """Fix the offsets of the tokens since the last call, now that all of the text is certain.

        Bytes that are not UTF-8 become longer when they are replaced, so the tokens are laid out from the end; bytes
        that are not part of a character have no exact offset anyway.
        """
        at = self._at = self._decoded
        for token in range(len(self.starts) - 1, self._certain, -1):
            size = self.ends[token] - self.starts[token]
            self.ends[token], at = at, max(self.starts[self._certain], at - size)
            self.starts[token] = at
        self.ends[self._certain] = at
        self._certain = len(self.starts)
