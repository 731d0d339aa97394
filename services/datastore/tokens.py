"""Exact tokenization: bytes to token ids and back, with the byte range of every token."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.models.byte_alphabet import byte_alphabet
from palimpsest.models.tokenizers import failing_as_model

_CHUNK = 1 << 18
"""Characters tokenized at once: the tokenizer needs many times the memory of its input."""
_BREAK = re.compile(r"\n(?=\S)")


class Encoded(NamedTuple):
    """Token ids of a document, int32 [n], and the byte offset of each token and of the end, uint32 [n + 1]."""

    ids: np.ndarray
    starts: np.ndarray


class ByteTokenizer:
    """A byte-level tokenizer, as of GPT-2 and its descendants: each id has a fixed byte sequence.

    Text never produces special tokens: ``<|im_end|>`` in a document is tokenized as those ten characters.

    Parameters
    ----------
    folder
        A model's folder, with ``tokenizer.json``.

    Raises
    ------
    FailedPrecondition
        TOKENIZER_UNSUPPORTED: the tokenizer is not byte-level, so its ids have no fixed bytes.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise _unsupported(f"{folder} has no tokenizer.json")
        with failing_as_model():
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
        """Whether a composite decoder contains the byte-level decoder."""
        return b'"ByteLevel"' in self._tokenizer.to_str().encode()

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes of each id; empty for special tokens and unused ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        table = byte_alphabet()
        found = [b""] * self.size
        for token, number in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if number in self.special or number >= self.size:
                continue
            if number in added:
                found[number] = token.encode()
            else:
                found[number] = bytes(table.get(c, 0) for c in token)
        return found

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of bytes of each id, int64 [size]."""
        return np.array([len(each) for each in self.token_bytes], dtype=np.int64)

    def encode(self, data: bytes) -> Encoded:
        """Token ids of UTF-8 text.

        Raises
        ------
        InvalidArgument
            DOCUMENT_ENCODING: not UTF-8. DOCUMENT_ROUND_TRIP: the ids do not decode to the same bytes.
        """
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise InvalidArgument(
                Reason.DOCUMENT_ENCODING,
                f"The document is not valid UTF-8 at byte {error.start}. Convert it to UTF-8 before adding it.",
                metadata={"offset": error.start},
            ) from None
        with failing_as_model(private=True):
            parts = [
                np.asarray(self._tokenizer.encode(t, add_special_tokens=False).ids, dtype=np.int32)
                for t in _cut(text)
            ]
        ids = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        if b"".join(map(self.token_bytes.__getitem__, ids.tolist())) != data:
            raise InvalidArgument(
                Reason.DOCUMENT_ROUND_TRIP,
                "The model's tokenizer does not decode this document's tokens to the same bytes, so quotes would not "
                "be exact. Remove unusual characters, or use a corpus of another model.",
            )
        starts = np.zeros(len(ids) + 1, dtype=np.uint32)  # [n + 1]
        np.cumsum(self.lengths[ids], out=starts[1:], dtype=np.uint32)
        return Encoded(ids, starts)


def _cut(text: str) -> Iterator[str]:
    """Cut a long text at the beginnings of lines, where tokens end anyway."""
    at = 0
    while at < len(text):
        end = at + _CHUNK
        if end < len(text):
            found = _BREAK.search(text, end, min(len(text), end + _CHUNK))
            end = found.end() if found else end
        yield text[at:end]
        at = end


def _unsupported(why: str) -> FailedPrecondition:
    message = f"This tokenizer gives no byte offsets: {why}. Use a model with a byte-level tokenizer."
    return FailedPrecondition(Reason.TOKENIZER_UNSUPPORTED, message)
