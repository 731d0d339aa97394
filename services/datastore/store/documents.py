"""A document as it is stored: raw bytes, token ids, and its division into passages."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from palimpsest.errors import DataLoss, Reason
from services.datastore.index.analysis import Terms, terms_of, whole_words

_PACKED = struct.Struct("<IQQIB")
"""Length of the head's JSON, length of the data, token count, tokens per passage, and whether vectors follow."""


@dataclass(frozen=True)
class DocumentHead:
    """A document's id, version and metadata.

    Attributes
    ----------
    version
        Starts at 1; grows by one each time the id is added with other content.
    sha256
        SHA-256 of the raw bytes, hexadecimal.
    created
        Seconds since 1970.
    """

    document: str
    version: int
    title: str = ""
    uri: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "text/plain"
    sha256: str = ""
    created: float = 0.0

    def to_json(self) -> bytes:
        """Serialise the head."""
        fields = {**self.__dict__, "metadata": dict(self.metadata)}
        return json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "DocumentHead":
        """Parse a serialised head."""
        return cls(**json.loads(data))

    @property
    def id_digest(self) -> bytes:
        """See ``id_digest``."""
        return id_digest(self.document)

    def same_as(self, other: "DocumentHead") -> bool:
        """Whether adding one document over the other would change nothing."""
        ours = (self.sha256, self.title, self.uri, dict(self.metadata))
        return ours == (other.sha256, other.title, other.uri, dict(other.metadata))


def id_digest(document: str) -> bytes:
    """16-byte digest of a document id, stored where the id itself must not be kept."""
    return hashlib.sha256(document.encode()).digest()[:16]


@dataclass
class Document:
    """A document with its tokens.

    Attributes
    ----------
    data
        The raw bytes, unchanged.
    tokens
        Token ids, int32 [n].
    starts
        Byte offset of each token, and of the end, uint32 [n + 1].
    passage_tokens
        Tokens in every passage except the last.
    vectors
        Passage vectors, float16 [passages, dim]; None until they are computed.
    """

    head: DocumentHead
    data: bytes
    tokens: np.ndarray
    starts: np.ndarray
    passage_tokens: int
    vectors: np.ndarray | None = None

    @property
    def passages(self) -> int:
        """Number of passages."""
        return -(-len(self.tokens) // self.passage_tokens)

    def span(self, passage: int) -> tuple[int, int]:
        """Token range of a passage, half-open."""
        first = passage * self.passage_tokens
        return first, min(first + self.passage_tokens, len(self.tokens))

    def text(self, passage: int) -> bytes:
        """The bytes of a passage; they may begin or end inside a character."""
        first, end = self.span(passage)
        return bytes(self.data[int(self.starts[first]) : int(self.starts[end])])

    def digest(self, passage: int) -> bytes:
        """16-byte digest of a passage's tokens; equal for equal passages of different documents."""
        first, end = self.span(passage)
        return token_digest(self.tokens[first:end])

    @cached_property
    def title_terms(self) -> Terms:
        """Terms of the title, which are indexed with every passage."""
        return terms_of(self.head.title)

    def edges(self, passage: int) -> tuple[bytes, bytes]:
        """The missing parts of the words that a passage's two ends cut through; b"" where an end is between words.

        Both passages at such a cut are indexed under the whole word, so equal passages with different edges have
        different terms.
        """
        first, end = self.span(passage)
        start, stop = int(self.starts[first]), int(self.starts[end])
        wide = whole_words(self.data, start, stop)
        return bytes(self.data[wide[0] : start]), bytes(self.data[stop : wide[1]])

    def terms(self, passage: int) -> Terms:
        """Index terms of a passage: those of the title and of its words."""
        before, after = self.edges(passage)
        return self.title_terms + terms_of((before + self.text(passage) + after).decode(errors="replace"))

    def embedded_text(self, passage: int) -> str:
        """Input of the sentence encoder: title, space, text."""
        return f"{self.head.title} {self.text(passage).decode(errors='replace')}".strip()

    def to_bytes(self) -> bytes:
        """Serialise the document as the payload of a log record."""
        head = self.head.to_json()
        vectors = b"" if self.vectors is None else np.ascontiguousarray(self.vectors, dtype="<f2").tobytes()
        packed = _PACKED.pack(
            len(head), len(self.data), len(self.tokens), self.passage_tokens, self.vectors is not None
        )
        ids, starts = self.tokens.astype("<u4").tobytes(), self.starts.astype("<u4").tobytes()
        return b"".join((packed, head, self.data, ids, starts, vectors))

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Document":
        """Parse the payload of a log record.

        Raises
        ------
        DataLoss
            CORPUS_DAMAGED: the payload has a valid checksum but is not a document.
        """
        try:
            head, size, count, passage_tokens, has_vectors = _PACKED.unpack_from(payload)
            at = _PACKED.size
            name = DocumentHead.from_json(payload[at : at + head])
            at += head
            data = payload[at : at + size]
            at += size
            ids = np.frombuffer(payload, "<u4", count, at).astype(np.int32)
            at += 4 * count
            starts = np.frombuffer(payload, "<u4", count + 1, at)
            at += 4 * count + 4
            found = cls(name, data, ids, starts, passage_tokens)
            if has_vectors and found.passages:
                found.vectors = np.frombuffer(payload, "<f2", offset=at).reshape(found.passages, -1)
        except (ValueError, TypeError, struct.error) as error:
            message = (
                f"A log record does not hold a valid document: {error}. Restore the corpus from a backup."
            )
            raise DataLoss(Reason.CORPUS_DAMAGED, message) from None
        return found


def token_digest(tokens: np.ndarray) -> bytes:
    """16-byte digest of a sequence of token ids."""
    return hashlib.blake2b(tokens.astype("<u4").tobytes(), digest_size=16).digest()


def characters_before(data: bytes | memoryview) -> int:
    """Number of code points that begin in some UTF-8 bytes."""
    octets = np.frombuffer(data, dtype=np.uint8)
    return int(np.count_nonzero((octets & 0xC0) != 0x80))
