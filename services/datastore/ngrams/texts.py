"""Sources of text for n-gram stores: a corpus's live documents, or an uploaded artefact."""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason
from services.datastore.store.corpus import Corpus
from services.datastore.tokens import ByteTokenizer

if TYPE_CHECKING:
    from palimpsest.artifacts import ArtifactInfo, ArtifactStore

LINES = ("application/jsonl", "application/x-ndjson")
"""Media types of texts with one document per line."""
_LINE_OVERHEAD = 1 << 10
"""Bytes of a line in addition to its text."""


class TextSource(Protocol):
    """A text, as tokens.

    Attributes
    ----------
    version
        Equal for equal texts.
    epoch
        Epoch of its corpus; 0 for an artefact.
    """

    version: str
    epoch: int

    def documents(self) -> Iterator[np.ndarray]:
        """Token ids of each document, int [n]."""
        ...


class CorpusText:
    """The current live documents of a corpus.

    Raises
    ------
    DataLoss
        CORPUS_DAMAGED: a segment cannot be read.
    """

    def __init__(self, corpus: Corpus) -> None:
        with corpus.lock:
            view = corpus.view()
            corpus.require_undamaged()
            self._found = corpus.documents()
        self.epoch, self.tombstone_version = view.epoch, view.tombstone_version
        # Derived from the documents, because the epoch also changes when they are sealed or compacted.
        digests = sorted(found.head.sha256 for found in self._found)
        self.version = hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def documents(self) -> Iterator[np.ndarray]:
        """Token ids of each document, as stored when it was added."""
        for found in self._found:
            yield np.asarray(found.document.tokens)


class ArtifactText:
    """An uploaded text: one document, or one document per line.

    Parameters
    ----------
    artifacts, info
        The store, and the artefact in it.
    tokenizer
        Tokenizer of the n-gram store's model.
    max_bytes
        Maximum size of a document, in bytes.
    """

    epoch = 0

    def __init__(
        self, artifacts: "ArtifactStore", info: "ArtifactInfo", tokenizer: ByteTokenizer, max_bytes: int
    ) -> None:
        self._artifacts, self._info, self._tokenizer, self._max_bytes = artifacts, info, tokenizer, max_bytes
        self._lines = info.media_type.partition(";")[0].strip().lower() in LINES
        self.version = f"{'lines' if self._lines else 'whole'} {info.digest}"

    def documents(self) -> Iterator[np.ndarray]:
        """Read and tokenize the text, one document at a time.

        Raises
        ------
        InvalidArgument
            DOCUMENT_ENCODING, DOCUMENT_ROUND_TRIP, DOCUMENT_TOO_LARGE or NGRAMS_LINE_INVALID.
        NotFound, DataLoss
            The artefact was deleted, or is damaged.
        """
        with self._artifacts.open(self._info.digest) as file:
            if not self._lines:
                yield self._tokenize(file.read(self._max_bytes + 1), "The text")
                return
            # A character takes at most six bytes in JSON, so a longer line holds a document that is too large.
            longest = 6 * self._max_bytes + _LINE_OVERHEAD
            lines = iter(lambda: file.readline(longest), b"")
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield self._tokenize(_text(line, number, longest), f"Line {number}")

    def _tokenize(self, data: bytes, what: str) -> np.ndarray:
        if len(data) > self._max_bytes:
            raise InvalidArgument(
                Reason.DOCUMENT_TOO_LARGE,
                f"{what} is larger than a document may be, {self._max_bytes} bytes. Split it into lines of a JSONL "
                "file.",
                metadata={"max_bytes": self._max_bytes},
            )
        return self._tokenizer.encode(data).ids


def _text(line: bytes, number: int, longest: int) -> bytes:
    try:
        found = json_input.decode(line, max_bytes=longest)
    except json_input.InvalidJson as error:
        raise _bad_line(number, error.problem) from None
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        raise _bad_line(
            number, 'it is not a JSON object with a string "text", as every line of JSONL must be'
        )
    return found["text"].encode()


def _bad_line(number: int, problem: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.NGRAMS_LINE_INVALID,
        f"Line {number} cannot be used: {problem}. Upload plain text with the media type text/plain.",
        metadata={"line": number},
    )
