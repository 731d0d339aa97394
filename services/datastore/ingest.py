"""Adding documents: assembled from a stream, checked, tokenized, embedded, and logged in one write."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from palimpsest.errors import InvalidArgument, PalimpsestError, Reason, ResourceExhausted
from services.datastore.index.encoder import Encoder
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document, DocumentHead
from services.datastore.store.results import Added
from services.datastore.tokens import ByteTokenizer

EMBEDDED_AT_ONCE = 8
"""A batch of at most this many passages is embedded before it is acknowledged, a larger one afterwards."""
LONGEST_EMBEDDED = 512
"""Documents with more passages are not embedded until BuildIndex."""


@dataclass
class IncomingDocument:
    """A document that is being received.

    Attributes
    ----------
    limit
        Maximum size of a document, in bytes.
    size_bytes, sha256
        Size and digest that the caller declared; 0 and empty if it did not.
    error
        Why the document is refused, if it is.
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
                f"{self.document!r} is not a document id: it must not be empty or contain control characters.",
            )
        elif self.size_bytes > self.limit:
            self._too_large()

    def append(self, chunk: bytes) -> None:
        """Append bytes; the bytes of a refused document are dropped."""
        if self.error is None:
            self.data += chunk
            if len(self.data) > self.limit:
                self._too_large()

    def _too_large(self) -> None:
        self.error = ResourceExhausted(
            Reason.DOCUMENT_TOO_LARGE,
            f"{self.document!r} is larger than the limit of {self.limit} bytes. Split it into several documents.",
            metadata={"document": self.document, "limit": self.limit},
        )
        self.data.clear()

    def finish(self) -> None:
        """Check the received bytes against the declared size and digest."""
        if self.error is not None:
            return
        found = hashlib.sha256(self.data).hexdigest()
        if (self.size_bytes and self.size_bytes != len(self.data)) or self.sha256 not in ("", found):
            self.error = InvalidArgument(
                Reason.DOCUMENT_SIZE,
                f"Received {len(self.data)} bytes of {self.document!r} with SHA-256 {found}, which is not what begin "
                "declared. Send the document again.",
                metadata={"size_bytes": len(self.data), "sha256": found},
            )
        elif not self.data:
            message = f"{self.document!r} is empty. Leave it out, or delete the document."
            self.error = InvalidArgument(Reason.DOCUMENT_EMPTY, message)
        self.sha256 = found

    def tokenized(self, tokenizer: ByteTokenizer, passage_tokens: int) -> Document:
        """The document with its tokens.

        Raises
        ------
        InvalidArgument
            DOCUMENT_ENCODING, DOCUMENT_ROUND_TRIP.
        """
        data = bytes(self.data)
        encoded = tokenizer.encode(data)
        head = DocumentHead(
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
class AddResult:
    """The outcome of adding one document: either ``added`` or ``error`` is set."""

    incoming: IncomingDocument
    added: Added | None = None
    tokens: int = 0
    error: PalimpsestError | None = None


def add_batch(
    corpus: Corpus,
    batch: Sequence[IncomingDocument],
    tokenizer: ByteTokenizer,
    encoder: Encoder | None,
    unsealed_limit: int,
) -> list[AddResult]:
    """Add documents in one durable write; returns a result for each, in order.

    Parameters
    ----------
    corpus, batch
        The corpus, and the documents to add.
    tokenizer
        Tokenizer of the corpus's model.
    encoder
        Encoder of the corpus; None to leave vectors to BuildIndex.
    unsealed_limit
        Unsealed tokens at which documents are refused.
    """
    unsealed = corpus.unsealed_tokens
    documents: list[Document | PalimpsestError] = []
    for incoming in batch:
        if incoming.error is None and unsealed >= unsealed_limit:
            incoming.error = ResourceExhausted(
                Reason.CORPUS_FULL,
                f"corpora/{corpus.spec.corpus} has {unsealed} unsealed tokens; the limit is {unsealed_limit}. Run "
                "BuildIndex, or wait for the running one, then retry.",
                retry_after=30.0,
            )
        try:
            documents.append(incoming.error or incoming.tokenized(tokenizer, corpus.spec.passage_tokens))
        except InvalidArgument as error:
            documents.append(error)
    valid = [document for document in documents if isinstance(document, Document)]
    if encoder is not None and sum(document.passages for document in valid) <= EMBEDDED_AT_ONCE:
        for document, vectors in zip(valid, _vectors(valid, encoder), strict=True):
            document.vectors = vectors
    added = iter(corpus.add(valid) if valid else [])
    return [
        AddResult(incoming, next(added), len(document.tokens))
        if isinstance(document, Document)
        else AddResult(incoming, error=document)
        for incoming, document in zip(batch, documents, strict=True)
    ]


def embed_some(corpus: Corpus, encoder: Encoder) -> bool:
    """Embed some documents that were added without vectors; False if there are none left."""
    documents = corpus.without_vectors(EMBEDDED_AT_ONCE, LONGEST_EMBEDDED)
    if not documents:
        return False
    corpus.put_vectors(documents, _vectors(documents, encoder))
    return True


def _vectors(documents: Sequence[Document], encoder: Encoder) -> list[np.ndarray]:
    """Vectors of the passages of each document, float16 [passages, dim]."""
    if not documents:
        return []
    texts = [document.embedded_text(n) for document in documents for n in range(document.passages)]
    vectors = encoder.encode(texts).astype(np.float16)  # [passages of all documents, dim]
    ends = np.cumsum([document.passages for document in documents])
    return np.split(vectors, ends[:-1])
