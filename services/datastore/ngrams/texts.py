"""Texts that n-grams are counted in: a corpus's live documents, or a text that was uploaded."""

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from palimpsest.errors import InvalidArgument, Reason
from services.datastore.store.builds import require_whole
from services.datastore.store.corpus import Corpus
from services.datastore.tokens import ByteTokenizer

if TYPE_CHECKING:
    from palimpsest.artifacts import ArtifactInfo, ArtifactStore

LINES = ("application/jsonl", "application/x-ndjson")
"""Media types of texts with a document in each line."""
_FRAME = 1 << 10
"""Bytes of a line beside its text."""


class Text(Protocol):
    """A text, cut into tokens.

    Attributes
    ----------
    version
        Equal for equal texts.
    epoch
        Of its corpus; 0 if it is of none.
    """

    version: str
    epoch: int

    def documents(self) -> Iterator[np.ndarray]:
        """Token ids of each document, int [n]."""
        ...


class CorpusText:
    """The live documents of a corpus, as they are now.

    Raises
    ------
    DataLoss
        CORPUS_DAMAGED: some of it cannot be read.
    """

    def __init__(self, corpus: Corpus) -> None:
        with corpus.lock:
            view = corpus.view()
            require_whole(corpus)
            self._found = corpus.documents()
        self.epoch, self.tombstones = view.epoch, view.tombstones
        # Of the documents and not of the epoch, which also changes with how they are kept.
        digests = sorted(found.head.sha256 for found in self._found)
        self.version = hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def documents(self) -> Iterator[np.ndarray]:
        """Token ids as they were cut when the document was added."""
        for found in self._found:
            yield np.asarray(found.document.tokens)


class ArtifactText:
    """A text that was uploaded: one document, or one in each line.

    Parameters
    ----------
    most
        Bytes of the largest document.
    """

    epoch = 0

    def __init__(
        self, artifacts: "ArtifactStore", info: "ArtifactInfo", tokenizer: ByteTokenizer, most: int
    ) -> None:
        self._artifacts, self._info, self._tokenizer, self._most = artifacts, info, tokenizer, most
        self._lines = info.media_type.partition(";")[0].strip().lower() in LINES
        self.version = f"{'lines' if self._lines else 'whole'} {info.digest}"

    def documents(self) -> Iterator[np.ndarray]:
        """Read it, a document at a time.

        Raises
        ------
        InvalidArgument
            DOCUMENT_ENCODING or DOCUMENT_ROUND_TRIP; DOCUMENT_TOO_LARGE; or NGRAMS_LINE_INVALID.
        NotFound, DataLoss
            The artefact is gone or damaged.
        """
        with self._artifacts.open(self._info.digest) as file:
            if not self._lines:
                yield self._cut(file.read(self._most + 1), "The text")
                return
            # A character takes at most six bytes in JSON, and what is longer than that is refused.
            lines = iter(lambda: file.readline(6 * self._most + _FRAME), b"")
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield self._cut(_text(line, number), f"Line {number}")

    def _cut(self, data: bytes, what: str) -> np.ndarray:
        if len(data) > self._most:
            raise InvalidArgument(
                Reason.DOCUMENT_TOO_LARGE,
                f"{what} is longer than the {self._most} bytes a document may have. Send JSONL, with a part in each "
                "line.",
                metadata={"max_bytes": self._most},
            )
        return self._tokenizer.encode(data).ids


def _text(line: bytes, number: int) -> bytes:
    try:
        found = json.loads(line)
        if isinstance(found, dict) and isinstance(found.get("text"), str):
            return found["text"].encode()
    except ValueError:
        pass
    raise InvalidArgument(
        Reason.NGRAMS_LINE_INVALID,
        f'Line {number} is not an object with a "text". Each line of a JSONL is one; send plain text as text/plain.',
        metadata={"line": number},
    )
