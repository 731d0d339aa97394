"""A document as it is stored: raw bytes, token ids, and how it is cut into passages."""

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
"""Bytes of the head's JSON, of the data, tokens, passages, and whether passage vectors follow."""


@dataclass(frozen=True)
class Head:
    """What a document is called.

    Attributes
    ----------
    version
        From 1; grows by one each time the id is added again with other bytes.
    sha256
        Of the raw bytes, hexadecimal.
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
        """The head as it is stored."""
        fields = {**self.__dict__, "metadata": dict(self.metadata)}
        return json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Head":
        """Read a stored head."""
        return cls(**json.loads(data))

    @property
    def id_digest(self) -> bytes:
        """See ``id_digest``."""
        return id_digest(self.document)

    def same_as(self, other: "Head") -> bool:
        """Whether adding one over the other would change nothing."""
        ours = (self.sha256, self.title, self.uri, dict(self.metadata))
        return ours == (other.sha256, other.title, other.uri, dict(other.metadata))


def id_digest(document: str) -> bytes:
    """16 bytes that stand for an id where the id itself should not be kept."""
    return hashlib.sha256(document.encode()).digest()[:16]


@dataclass
class Document:
    """A document with its tokens.

    Attributes
    ----------
    data
        Its raw bytes, untouched.
    tokens
        Ids, int32 [n].
    starts
        Byte at which each token begins, uint32 [n + 1], the end included.
    passage_tokens
        Tokens of every passage but the last.
    vectors
        Of the passages, float16 [passages, dim]; None until they are computed.
    """

    head: Head
    data: bytes
    tokens: np.ndarray
    starts: np.ndarray
    passage_tokens: int
    vectors: np.ndarray | None = None

    @property
    def passages(self) -> int:
        """How many passages there are."""
        return -(-len(self.tokens) // self.passage_tokens)

    def span(self, passage: int) -> tuple[int, int]:
        """First token of a passage, and the one after its last."""
        first = passage * self.passage_tokens
        return first, min(first + self.passage_tokens, len(self.tokens))

    def text(self, passage: int) -> bytes:
        """The bytes of a passage's tokens; they may begin or end inside a character."""
        first, end = self.span(passage)
        return bytes(self.data[int(self.starts[first]) : int(self.starts[end])])

    def digest(self, passage: int) -> bytes:
        """16 bytes equal for passages of equal tokens, whichever document they are in."""
        first, end = self.span(passage)
        return token_digest(self.tokens[first:end])

    @cached_property
    def title_terms(self) -> Terms:
        """Terms of the title, which every passage is found by."""
        return terms_of(self.head.title)

    def edges(self, passage: int) -> tuple[bytes, bytes]:
        """The rests of the words that a passage begins and ends within; b"" where it is not within one.

        A passage is found by such words whole, as is the one beside it; so equal passages of different edges are
        not found by the same words.
        """
        first, end = self.span(passage)
        start, stop = int(self.starts[first]), int(self.starts[end])
        wide = whole_words(self.data, start, stop)
        return bytes(self.data[wide[0] : start]), bytes(self.data[stop : wide[1]])

    def terms(self, passage: int) -> Terms:
        """What the passage is found by: its title and words."""
        before, after = self.edges(passage)
        return self.title_terms + terms_of((before + self.text(passage) + after).decode(errors="replace"))

    def embedded_text(self, passage: int) -> str:
        """What the sentence encoder reads: title, space, text."""
        return f"{self.head.title} {self.text(passage).decode(errors='replace')}".strip()

    def to_bytes(self) -> bytes:
        """The document as a log record's payload."""
        head = self.head.to_json()
        vectors = b"" if self.vectors is None else np.ascontiguousarray(self.vectors, dtype="<f2").tobytes()
        packed = _PACKED.pack(
            len(head), len(self.data), len(self.tokens), self.passage_tokens, self.vectors is not None
        )
        ids, starts = self.tokens.astype("<u4").tobytes(), self.starts.astype("<u4").tobytes()
        return b"".join((packed, head, self.data, ids, starts, vectors))

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Document":
        """Read a log record's payload.

        Raises
        ------
        DataLoss
            CORPUS_DAMAGED: it passed its checksum and is still not a document.
        """
        try:
            head, size, count, passage_tokens, has_vectors = _PACKED.unpack_from(payload)
            at = _PACKED.size
            name = Head.from_json(payload[at : at + head])
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
            raise DataLoss(Reason.CORPUS_DAMAGED, f"A log record is no document: {error}.") from None
        return found


def token_digest(tokens: np.ndarray) -> bytes:
    """16 bytes that stand for a run of token ids."""
    return hashlib.blake2b(tokens.astype("<u4").tobytes(), digest_size=16).digest()


def characters_before(data: bytes | memoryview) -> int:
    """Code points that begin in some bytes."""
    octets = np.frombuffer(data, dtype=np.uint8)
    return int(np.count_nonzero((octets & 0xC0) != 0x80))
