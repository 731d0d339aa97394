"""From token ids to text as it becomes certain: whole characters only, and nothing a stop string may take back."""

import copy
import re
from collections.abc import Sequence
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Detokenizer:
    """Incremental decoding of one sequence.

    The texts :meth:`push` and :meth:`finish` return add up to ``tokenizer.decode`` of all the ids, special tokens
    left out. Decoding starts again a little before the new tokens, where the text is known to be settled, so a
    step costs the same however long the text is.

    Parameters
    ----------
    tokenizer
        A transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context, self._settled = 0, 0
        self._before = ""
        self._in_bytes = False

    def copy(self) -> "Detokenizer":
        """Another sequence with the same tokens so far."""
        twin = copy.copy(self)
        twin._ids = list(self._ids)
        return twin

    def _decode(self, start: int) -> str:
        return self._tokenizer.decode(
            self._ids[start:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _is_open(self, text: str) -> bool:
        """Whether a later token may still change the end of the text."""
        return self._in_bytes or text.endswith("\ufffd")

    def _ends_in_bytes(self, token: int) -> bool:
        """Whether the text now ends in byte tokens.

        A run of them is decoded as a whole: one bad byte at its end spoils the characters before it.
        """
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if isinstance(piece, str) and _BYTE_TOKEN.fullmatch(piece):
            return True
        return self._in_bytes and not self._tokenizer.decode([token], skip_special_tokens=True)

    def push(self, token: int) -> str:
        """Add a token; returns the text that has become certain."""
        self._ids.append(token)
        self._in_bytes = self._ends_in_bytes(token)
        text = self._decode(self._context)
        if self._is_open(text) or len(text) <= len(self._before):
            return ""
        new = text[len(self._before) :]
        self._context, self._settled = self._settled, len(self._ids)
        self._before = self._decode_settled()
        return new

    def _decode_settled(self) -> str:
        text = self._decode(self._context)
        if not text and self._context:
            # Only special tokens since: a decoder that strips a leading space needs a real token before the new one.
            self._context = 0
            text = self._decode(0)
        return text

    def finish(self) -> str:
        """The rest of the text, with whatever is left of an unfinished character."""
        text = self._decode(self._context)
        rest = text[len(self._before) :]
        self._before = text
        return rest


class StopMatcher:
    """Finds the first stop string to be completed in a text that comes in pieces.

    Where the text is cut into pieces makes no difference: the match that ends first wins, and of those the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = list(stops)
        self._held = ""

    def copy(self) -> "StopMatcher":
        """Another text that begins with the same pieces."""
        return copy.copy(self)

    def push(self, text: str) -> tuple[str, str | None]:
        """Add text.

        Returns
        -------
        tuple
            Text that can be given out, and the stop string that ended it, or None.
        """
        if not self._stops:
            return text, None
        self._held += text
        matches = []
        for stop in self._stops:
            start = self._held.find(stop)
            if start >= 0:
                matches.append((start + len(stop), start, stop))
        if matches:
            _, start, stop = min(matches)
            out, self._held = self._held[:start], ""
            return out, stop
        keep = max(
            (n for stop in self._stops for n in range(1, len(stop)) if self._held.endswith(stop[:n])),
            default=0,
        )
        cut = len(self._held) - keep
        out, self._held = self._held[:cut], self._held[cut:]
        return out, None

    def finish(self) -> str:
        """The text still held back, when no more will come."""
        out, self._held = self._held, ""
        return out
