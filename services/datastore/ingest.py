"""From a stream's messages to documents that are stored: assembled, checked, tokenized, embedded, logged together."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from palimpsest.errors import InvalidArgument, PalimpsestError, Reason, ResourceExhausted
from services.datastore.index.encoder import Encoder
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document, Head
from services.datastore.store.results import Added
from services.datastore.tokens import ByteTokenizer

EMBEDDED_AT_ONCE = 8
"""Passages that are embedded before they are acknowledged; where more come together, they are embedded afterwards."""
LONGEST_EMBEDDED = 512
"""Passages of a document up to which its vectors are computed here at all; those of longer ones by BuildIndex."""


@dataclass
class Arriving:
    """A document whose bytes are arriving.

    Attributes
    ----------
    limit
        Largest document, in bytes.
    size_bytes, sha256
        As announced; 0 and empty where they were not.
    """

    document: str
    limit: int
    title: str = ""
    uri: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    media_type: str = ""
    size_bytes: int = 0
    sha256: str = ""
    error: PalimpsestError | None = None
    data: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        if not self.document or any(ord(c) < 32 for c in self.document):
            self.error = InvalidArgument.field(
                Reason.INVALID_REQUEST,
                "begin.document",
                "A document's id must not be empty or hold control characters.",
            )
        elif self.size_bytes > self.limit:
            self._too_large()

    def take(self, chunk: bytes) -> None:
        """Take the next bytes; those of a refused document are dropped."""
        if self.error is None:
            self.data += chunk
            if len(self.data) > self.limit:
                self._too_large()

    def _too_large(self) -> None:
        self.error = ResourceExhausted(
            Reason.DOCUMENT_TOO_LARGE,
            f"{self.document!r} has more than {self.limit} bytes, which is the most that is taken; split it.",
            metadata={"document": self.document, "limit": self.limit},
        )
        self.data.clear()

    def finish(self) -> None:
        """Check what was announced against what came."""
        if self.error is not None:
            return
        found = hashlib.sha256(self.data).hexdigest()
        if (self.size_bytes and self.size_bytes != len(self.data)) or self.sha256 not in ("", found):
            self.error = InvalidArgument(
                Reason.DOCUMENT_SIZE,
                f"{self.document!r} came with {len(self.data)} bytes of SHA-256 {found}, not those announced.",
                metadata={"size_bytes": len(self.data), "sha256": found},
            )
        elif not self.data:
            self.error = InvalidArgument(Reason.DOCUMENT_EMPTY, f"{self.document!r} has no bytes.")
        self.sha256 = found

    def stored(self, tokenizer: ByteTokenizer, passage_tokens: int) -> Document:
        """The document with its tokens.

        Raises
        ------
        InvalidArgument
            DOCUMENT_ENCODING, DOCUMENT_ROUND_TRIP.
        """
        data = bytes(self.data)
        encoded = tokenizer.encode(data)
        head = Head(
            self.document,
            0,
            title=self.title,
            uri=self.uri,
            metadata=dict(self.metadata),
            media_type=self.media_type or "text/plain",
            sha256=self.sha256,
            created=time.time(),
        )
        return Document(head, data, encoded.ids, encoded.starts, passage_tokens)


@dataclass(frozen=True)
class Answer:
    """What became of a document."""

    arriving: Arriving
    added: Added | None = None
    tokens: int = 0
    error: PalimpsestError | None = None


def store(
    corpus: Corpus,
    batch: Sequence[Arriving],
    tokenizer: ByteTokenizer,
    encoder: Encoder | None,
    unsealed_limit: int,
) -> list[Answer]:
    """Store some documents in one durable write; each has its answer, in order.

    Parameters
    ----------
    corpus, batch
        Where to, and what.
    tokenizer
        Of the corpus's model.
    encoder
        None: leave vectors to BuildIndex.
    unsealed_limit
        Tokens outside segments at which documents are refused.
    """
    full = corpus.memory_tokens >= unsealed_limit
    documents: list[Document | PalimpsestError] = []
    for arriving in batch:
        if arriving.error is None and full:
            arriving.error = ResourceExhausted(
                Reason.CORPUS_FULL,
                f"{corpus.memory_tokens} tokens of {corpus.spec.corpus} wait for BuildIndex; run it, or wait for it.",
                retry_after=30.0,
            )
        try:
            documents.append(arriving.error or arriving.stored(tokenizer, corpus.spec.passage_tokens))
        except InvalidArgument as error:
            documents.append(error)
    good = [document for document in documents if isinstance(document, Document)]
    if encoder is not None and sum(document.passages for document in good) <= EMBEDDED_AT_ONCE:
        embed(good, encoder)
    added = iter(corpus.add(good) if good else [])
    return [
        Answer(arriving, next(added), len(document.tokens))
        if isinstance(document, Document)
        else Answer(arriving, error=document)
        for arriving, document in zip(batch, documents, strict=True)
    ]


def embed_some(corpus: Corpus, encoder: Encoder) -> bool:
    """Give some documents that were added without vectors theirs; False if there are none left."""
    documents = corpus.without_vectors(EMBEDDED_AT_ONCE, LONGEST_EMBEDDED)
    if not documents:
        return False
    texts = [document.embedded_text(n) for document in documents for n in range(document.passages)]
    vectors = encoder.encode(texts).astype(np.float16)
    ends = np.cumsum([document.passages for document in documents])
    corpus.put_vectors(documents, np.split(vectors, ends[:-1]))
    return True


def embed(documents: Sequence[Document], encoder: Encoder) -> None:
    """Give documents the vectors of their passages."""
    texts = [document.embedded_text(n) for document in documents for n in range(document.passages)]
    vectors = encoder.encode(texts).astype(np.float16) if texts else np.zeros((0, encoder.dim), np.float16)
    at = 0
    for document in documents:
        document.vectors = vectors[at : at + document.passages]
        at += document.passages
