"""Bytes of single tokens, which need not be whole characters."""

from typing import Any

from palimpsest.models.byte_alphabet import byte_alphabet


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids that are no text: decoding with ``skip_special_tokens`` leaves them out, named by the tokenizer or not."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(tokenizer.all_special_ids) | {i for i, token in added.items() if token.special}


class TokenBytes:
    """Bytes of single tokens, as the tokenizer writes them; remembered, as text repeats itself."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bytes] = {}
        self._byte_level = byte_alphabet()

    def __call__(self, token: int) -> bytes:
        """The token's bytes; part of a character for some."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._find(token)
        return found

    def _find(self, token: int) -> bytes:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            return b""
        text = self._tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if piece.startswith("<0x") and len(piece) == 6 and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        if "\ufffd" in text and all(c in self._byte_level for c in piece):
            return bytes(self._byte_level[c] for c in piece)
        if piece.startswith("\u2581") and not text.startswith(" "):
            text = " " + text
        return text.encode()
