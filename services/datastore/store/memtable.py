"""The unsealed documents of one log, in memory: searched exactly, growing document by document."""

from collections.abc import Iterator, Sequence

import numpy as np

from services.datastore.index.liveness import Liveness, grown
from services.datastore.index.suffixes import SuffixMatch, TokenPosition, longest_live, longest_suffix_flat
from services.datastore.store.documents import Document, DocumentHead, characters_before

Postings = tuple[np.ndarray, np.ndarray]
"""Entries that contain a term, int64 [n], ascending, and the term's count in each, float32 [n]."""

_NO_POSTINGS: Postings = (np.zeros(0, np.int64), np.zeros(0, np.float32))


class Memtable:
    """The documents of one log. The caller holds the corpus's lock. Adding costs time linear in the document's length.

    An entry is a distinct passage: passages with the same title, tokens and edge words share one.

    Parameters
    ----------
    dim
        Dimension of passage vectors.
    """

    name = "memory"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.liveness = Liveness()
        self.docs: list[Document] = []
        self._rows: dict[bytes, list[int]] = {}
        self._first_passage: list[int] = []
        self._passages: list[tuple[int, int, int]] = []
        """For each passage: document row, number within the document, entry."""
        self._entry_of: dict[tuple[str, bytes, tuple[bytes, bytes]], int] = {}
        self._entry_passages: list[list[int]] = []
        self._by_digest: dict[bytes, list[int]] = {}
        self._terms: dict[int, tuple[list[int], list[int]]] = {}
        self._lengths = np.zeros(0, np.int32)
        self._vectors = np.zeros((0, dim), np.float32)
        self._encoded = np.zeros(0, bool)
        self._tokens = np.zeros(0, np.int32)
        """Tokens of all documents, each followed by a -1; int32, only the first ``_token_count`` are in use."""
        self._token_count = 0
        self._first_token: list[int] = []
        self._waiting: list[int] = []
        """Rows that were added without vectors; some may have received vectors since."""

    @property
    def entries(self) -> int:
        """Number of entries."""
        return len(self._entry_passages)

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return self._token_count - len(self.docs)

    @property
    def live_tokens(self) -> int:
        """Tokens of live documents."""
        return sum(len(self.docs[row].tokens) for row in self.live_documents())

    @property
    def lengths(self) -> np.ndarray:
        """Number of terms in each entry, int32 [entries]."""
        return self._lengths[: self.entries]

    @property
    def deleted_rows(self) -> list[int]:
        """Rows of deleted documents."""
        return np.flatnonzero(~self.liveness.documents[: len(self.docs)]).tolist()

    def add(self, document: Document) -> int:
        """Add a document; returns its row."""
        row, first = len(self.docs), len(self._passages)
        self.docs.append(document)
        self._rows.setdefault(document.head.id_digest, []).append(row)
        self._first_passage.append(first)
        self.liveness.reserve(row + 1, self.entries + document.passages)
        self._lengths = grown(self._lengths, self.entries + document.passages)
        self.liveness.documents[row] = True
        for number in range(document.passages):
            digest = document.digest(number)
            entry = self._entry(document, number, digest)
            self._by_digest.setdefault(digest, []).append(first + number)
            self._passages.append((row, number, entry))
            self._entry_passages[entry].append(first + number)
            self.liveness.gain(entry, int(self._lengths[entry]))
            if document.vectors is not None:
                self.put_vector(entry, document.vectors[number])
        if document.vectors is None:
            self._waiting.append(row)
        self._first_token.append(self._token_count)
        end = self._token_count + len(document.tokens) + 1
        self._tokens = grown(self._tokens, end)
        self._tokens[self._token_count : end - 1] = document.tokens
        self._tokens[end - 1] = -1
        self._token_count = end
        return row

    def _entry(self, document: Document, number: int, digest: bytes) -> int:
        key = (document.head.title, digest, document.edges(number))
        if key not in self._entry_of:
            entry = self._entry_of[key] = len(self._entry_passages)
            self._entry_passages.append([])
            terms = document.terms(number)
            self._lengths[entry] = terms.total()
            for term, count in terms.items():
                entries, counts = self._terms.setdefault(term, ([], []))
                entries.append(entry)
                counts.append(count)
        return self._entry_of[key]

    def put_vector(self, entry: int, vector: np.ndarray) -> None:
        """Store the vector of an entry, float [dim]."""
        if len(self._encoded) <= entry:
            self._encoded = grown(self._encoded, entry + 1)
            larger = np.zeros((len(self._encoded), self.dim), np.float32)
            larger[: len(self._vectors)] = self._vectors
            self._vectors = larger
        self._vectors[entry] = vector
        self._encoded[entry] = True

    def embed(self, row: int, vectors: np.ndarray) -> None:
        """Store the vectors of a document's passages, float16 [passages, dim]."""
        document, first = self.docs[row], self._first_passage[row]
        document.vectors = vectors
        for _, number, entry in self._passages[first : first + document.passages]:
            self.put_vector(entry, vectors[number])

    def without_vectors(self, passages: int, longest: int) -> list[int]:
        """Rows of some live documents without vectors: about so many passages together, none with more than longest."""
        rows, found = [], 0
        for row in self._waiting:
            if found >= passages:
                break
            document = self.docs[row]
            if document.vectors is None and document.passages <= longest and self.liveness.documents[row]:
                rows.append(row)
                found += document.passages
        else:
            self._waiting = list(rows)
        return rows

    def find(self, digest: bytes) -> Iterator[tuple[int, DocumentHead]]:
        """Rows of a document's versions, by the digest of its id."""
        for row in self._rows.get(digest, ()):
            yield row, self.docs[row].head

    def mark_deleted(self, row: int) -> bool:
        """Mark a document as deleted; False if it was already."""
        if not self.liveness.documents[row]:
            return False
        self.liveness.documents[row] = False
        first = self._first_passage[row]
        for _, _, entry in self._passages[first : first + self.docs[row].passages]:
            self.liveness.lose(entry, int(self._lengths[entry]))
        return True

    def postings(self, term: int) -> Postings:
        """Entries that contain a term, and its count in each."""
        found = self._terms.get(term)
        return _NO_POSTINGS if found is None else (np.asarray(found[0]), np.asarray(found[1], np.float32))

    def dense(self, query: np.ndarray, k: int) -> Postings:
        """The k live entries with the largest inner products with a query, float32 [dim]."""
        size = min(len(self._encoded), self.entries)
        usable = np.flatnonzero(self._encoded[:size] & self.liveness.live[:size])  # [n] int64
        scores = self._vectors[usable] @ query  # [n, dim] x [dim] -> [n] float32
        best = np.argsort(-scores, kind="stable")[:k]  # [k] int64
        return usable[best], scores[best]

    def owners(self, entry: int) -> list[tuple[int, int]]:
        """Live passages of an entry: document row, number within the document."""
        return self._live(self._entry_passages[entry])

    def same(self, digest: bytes) -> list[tuple[int, int]]:
        """Live passages with the same tokens, by the digest of the tokens."""
        return self._live(self._by_digest.get(digest, ()))

    def _live(self, passages: Sequence[int]) -> list[tuple[int, int]]:
        found = (self._passages[p] for p in passages)
        return [(row, number) for row, number, _ in found if self.liveness.documents[row]]

    def document(self, row: int) -> Document:
        """A document by its row."""
        return self.docs[row]

    def head(self, row: int) -> DocumentHead:
        """The id, version and metadata of a document."""
        return self.docs[row].head

    def characters(self, row: int, passage: int) -> int:
        """Number of code points before a passage."""
        document = self.docs[row]
        return characters_before(document.data[: int(document.starts[document.span(passage)[0]])])

    def live_documents(self) -> Iterator[int]:
        """Rows of live documents."""
        return iter(np.flatnonzero(self.liveness.documents[: len(self.docs)]).tolist())

    def suffix(
        self, context: np.ndarray, shortest: int, longest: int, limit: int
    ) -> tuple[int, list[TokenPosition]]:
        """As ``Segment.suffix``."""
        tokens, starts = self._tokens[: self._token_count], np.asarray(self._first_token, np.int64)
        sizes = np.diff(starts, append=self._token_count) - 1

        def find(most: int) -> SuffixMatch:
            return longest_suffix_flat(tokens, context, shortest, most)

        return longest_live(find, starts, sizes, self.liveness.documents, longest, limit)

    def ids(self, row: int, start: int, end: int) -> np.ndarray:
        """As ``Segment.ids``."""
        return self.docs[row].tokens[start:end]
