"""From bytes to token ids and back, exactly: every token knows which bytes of the document it stands for."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.models.byte_alphabet import byte_alphabet

_PIECE = 1 << 18
"""Characters tokenized at once: what the tokenizer needs for a text is many times the text."""
_BREAK = re.compile(r"\n(?=\S)")


class Encoded(NamedTuple):
    """Token ids of a document, int32 [n], and where each begins in its bytes, uint32 [n + 1] (the end included)."""

    ids: np.ndarray
    starts: np.ndarray


class ByteTokenizer:
    """A byte-level tokenizer (GPT-2's and its descendants'): each id stands for fixed bytes.

    Special tokens are never made from text: ``<|im_end|>`` in a document is those ten characters.

    Parameters
    ----------
    folder
        A model's, with ``tokenizer.json``.

    Raises
    ------
    FailedPrecondition
        TOKENIZER_UNSUPPORTED: the tokenizer is not byte-level, so that bytes cannot be told from its ids.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise _unsupported(f"{folder} has no tokenizer.json")
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self.special = frozenset(
            i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special
        )
        self.size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if "ByteLevel" not in str(type(self._tokenizer.decoder).__name__) and not self._looks_byte_level():
            raise _unsupported("the tokenizer is not byte-level")

    def _looks_byte_level(self) -> bool:
        """Whether a decoder that is made of parts has the byte-level one among them."""
        return b'"ByteLevel"' in self._tokenizer.to_str().encode()

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes of each id; empty for special tokens and for holes in the vocabulary."""
        added = self._tokenizer.get_added_tokens_decoder()
        table = byte_alphabet()
        pieces = [b""] * self.size
        for token, number in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if number in self.special or number >= self.size:
                continue
            if number in added:
                pieces[number] = token.encode()
            else:
                pieces[number] = bytes(table.get(c, 0) for c in token)
        return pieces

    @cached_property
    def lengths(self) -> np.ndarray:
        """Bytes of each id, int64 [size]."""
        return np.array([len(piece) for piece in self.pieces], dtype=np.int64)

    def encode(self, data: bytes) -> Encoded:
        """Token ids of UTF-8 text.

        Raises
        ------
        InvalidArgument
            DOCUMENT_ENCODING, or DOCUMENT_ROUND_TRIP: the ids do not give the bytes back.
        """
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise InvalidArgument(
                Reason.DOCUMENT_ENCODING,
                f"The document is not UTF-8 (byte {error.start}); convert it, its bytes are kept as they are.",
                metadata={"offset": error.start},
            ) from None
        parts = [
            np.asarray(self._tokenizer.encode(t, add_special_tokens=False).ids, dtype=np.int32)
            for t in _cut(text)
        ]
        ids = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        if b"".join(map(self.pieces.__getitem__, ids.tolist())) != data:
            raise InvalidArgument(
                Reason.DOCUMENT_ROUND_TRIP,
                "The model's tokenizer does not give this document's bytes back, so its quotes could not be exact.",
            )
        starts = np.zeros(len(ids) + 1, dtype=np.uint32)
        np.cumsum(self.lengths[ids], out=starts[1:], dtype=np.uint32)
        return Encoded(ids, starts)


def _cut(text: str) -> Iterator[str]:
    """A long text in pieces that end at the start of a line, where a token would end anyway."""
    at = 0
    while at < len(text):
        end = at + _PIECE
        if end < len(text):
            found = _BREAK.search(text, end, min(len(text), end + _PIECE))
            end = found.end() if found else end
        yield text[at:end]
        at = end


def _unsupported(why: str) -> FailedPrecondition:
    message = f"Byte offsets cannot be told: {why}. Use a model with a byte-level tokenizer."
    return FailedPrecondition(Reason.TOKENIZER_UNSUPPORTED, message)
