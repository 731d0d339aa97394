"""A sealed part of a corpus: immutable, memory-mapped files, and the deletions made since, in memory."""

import mmap
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from palimpsest.errors import DataLoss, Reason
from services.datastore.files import load_array, verify_checksums
from services.datastore.index.liveness import Liveness
from services.datastore.index.passage_index import PassageIndex
from services.datastore.index.suffixes import (
    Separated,
    SuffixMatch,
    TokenPosition,
    longest_live,
    longest_suffix,
)
from services.datastore.store.documents import Document, DocumentHead
from services.datastore.store.memtable import Postings


class SegmentFiles:
    """The files of a segment, checked once when opened; ``segment_writer`` lists their contents.

    Raises
    ------
    DataLoss
        CORPUS_DAMAGED: a file is missing, or its checksum does not match.
    """

    def __init__(self, folder: Path) -> None:
        verify_checksums(folder)
        self.folder, self.name = folder, folder.name
        self.docs = _mapped(folder / "docs.bin")
        self.heads = _mapped(folder / "heads.bin")

    def __getattr__(self, name: str) -> np.ndarray:
        """Map an array at its first use."""
        array = load_array(self.folder / f"{name}.npy")
        setattr(self, name, array)
        return array

    @cached_property
    def separated(self) -> Separated:
        """The text that the suffix array indexes."""
        return Separated(self.tokens, self.doc_token)


def _mapped(path: Path) -> memoryview:
    """A file's bytes, mapped."""
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class Segment:
    """A segment as listed in one manifest. Reading needs no lock; ``mark_deleted`` needs the corpus's.

    Parameters
    ----------
    files
        The files, shared by all instances of the segment.
    passage_tokens
        Tokens in every passage except a document's last.
    index
        The index of its passage vectors.
    deleted
        Rows of documents that are deleted already.
    """

    def __init__(
        self,
        files: SegmentFiles,
        passage_tokens: int,
        index: PassageIndex,
        deleted: Iterable[int] = (),
    ) -> None:
        self.files, self.name, self._passage_tokens = files, files.name, passage_tokens
        self.lengths: np.ndarray = files.length
        self.liveness = Liveness(len(files.doc_start) - 1, np.diff(files.entry_start), files.length)
        self._index = index
        for row in deleted:
            self.mark_deleted(row)

    @property
    def entries(self) -> int:
        """Number of entries; see ``Memtable``."""
        return len(self.files.entry_start) - 1

    @property
    def tokens(self) -> int:
        """Tokens of all documents, deleted ones included."""
        return len(self.files.tokens)

    @property
    def deleted_rows(self) -> list[int]:
        """Rows of deleted documents."""
        return np.flatnonzero(~self.liveness.documents).tolist()

    @property
    def deleted_tokens(self) -> int:
        """Tokens of deleted documents."""
        counts = np.diff(self.files.doc_token)
        return int(counts[~self.liveness.documents].sum())

    @property
    def live_tokens(self) -> int:
        """Tokens of live documents."""
        return self.tokens - self.deleted_tokens

    def find(self, digest: bytes) -> Iterator[tuple[int, DocumentHead]]:
        """Rows of a document's versions, by the digest of its id."""
        wanted = np.uint64(int.from_bytes(digest[:8], "little"))
        at = int(np.searchsorted(self.files.id_hash, wanted))
        while at < len(self.files.id_hash) and self.files.id_hash[at] == wanted:
            row = int(self.files.id_row[at])
            head = self.head(row)
            if head.id_digest == digest:
                yield row, head
            at += 1

    def mark_deleted(self, row: int) -> bool:
        """Mark a document as deleted; False if it was already."""
        if not self.liveness.documents[row]:
            return False
        self.liveness.documents[row] = False
        first, end = self.files.doc_passage[row : row + 2]
        emptied = []
        for entry in self.files.passage_entry[first:end].tolist():
            self.liveness.lose(entry, int(self.lengths[entry]))
            if not self.liveness.live[entry]:
                emptied.append(entry)
        self._index.remove(emptied)
        return True

    def postings(self, term: int) -> Postings:
        """See ``Memtable.postings``."""
        wanted = np.uint64(term)
        at = int(np.searchsorted(self.files.term, wanted))
        if at == len(self.files.term) or self.files.term[at] != wanted:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        start, end = self.files.term_start[at : at + 2]
        return (
            self.files.posting_entry[start:end].astype(np.int64),
            self.files.posting_count[start:end].astype(np.float32),
        )

    def dense(self, query: np.ndarray, k: int) -> Postings:
        """The k live entries with the largest inner products with a query, float32 [dim]."""
        hits = self._index.search(query, k)
        return hits.ids, hits.scores

    def owners(self, entry: int) -> list[tuple[int, int]]:
        """Live passages of an entry: document row, number within the document."""
        start, end = self.files.entry_start[entry : entry + 2]
        return self._live(self.files.entry_passage[start:end].tolist())

    def same(self, digest: bytes) -> list[tuple[int, int]]:
        """Live passages with the same tokens, by the digest of the tokens."""
        wanted = np.uint64(int.from_bytes(digest[:8], "little"))
        start = int(np.searchsorted(self.files.digest, wanted))
        end = int(np.searchsorted(self.files.digest, wanted, side="right"))
        found = self._live(self.files.digest_row[start:end].tolist())
        return [(row, number) for row, number in found if self.document(row).digest(number) == digest]

    def _live(self, passages: list[int]) -> list[tuple[int, int]]:
        found = []
        for passage in passages:
            row = int(np.searchsorted(self.files.doc_passage, passage, side="right")) - 1
            if self.liveness.documents[row]:
                found.append((row, passage - int(self.files.doc_passage[row])))
        return found

    def document(self, row: int) -> Document:
        """A document by its row; its bytes and arrays are views of the mapped files."""
        files = self.files
        start, end = files.doc_start[row : row + 2]
        first, last = (int(n) for n in files.doc_token[row : row + 2])
        return Document(
            self.head(row),
            files.docs[start:end],  # type: ignore[arg-type]
            files.tokens[first:last],
            files.token_start[first + row : last + row + 1],
            self._passage_tokens,
        )

    def head(self, row: int) -> DocumentHead:
        """The id, version and metadata of a document.

        Raises
        ------
        DataLoss
            CORPUS_DAMAGED: the files were altered after they were checked.
        """
        start, end = self.files.head_start[row : row + 2]
        try:
            return DocumentHead.from_json(bytes(self.files.heads[start:end]))
        except (ValueError, TypeError):
            message = f"{self.name}/heads.bin is damaged at row {row}. Restore it from a backup."
            raise DataLoss(Reason.CORPUS_DAMAGED, message) from None

    def vectors(self, row: int) -> np.ndarray:
        """Vectors of a document's passages, float16 [passages, dim]; equal passages share a row of the file."""
        first, end = self.files.doc_passage[row : row + 2]
        return self.files.vectors[self.files.passage_entry[first:end]]

    def characters(self, row: int, passage: int) -> int:
        """Number of code points before a passage."""
        return int(self.files.passage_char[int(self.files.doc_passage[row]) + passage])

    def live_documents(self) -> Iterator[int]:
        """Rows of live documents."""
        return iter(np.flatnonzero(self.liveness.documents).tolist())

    def suffix(
        self, context: np.ndarray, shortest: int, longest: int, limit: int
    ) -> tuple[int, list[TokenPosition]]:
        """Find the longest suffix of a context that occurs in a live document and is not the document's end.

        Parameters
        ----------
        context
            Token ids, int [n].
        shortest, longest
            Bounds of the match, in tokens.
        limit
            Maximum number of occurrences to return.

        Returns
        -------
        tuple
            Length of the match, 0 if there is none, and the position after each occurrence.
        """
        text, array = self.files.separated, self.files.suffixes

        def find(most: int) -> SuffixMatch:
            return longest_suffix(text, array, context, shortest, most)

        return longest_live(find, text.starts, text.sizes, self.liveness.documents, longest, limit)

    def ids(self, row: int, start: int, end: int) -> np.ndarray:
        """Token ids of a document from ``start`` to ``end``, or to its last token if that comes first; int32 [n]."""
        first, last = (int(n) for n in self.files.doc_token[row : row + 2])
        return self.files.tokens[first + start : min(first + end, last)].astype(np.int32)
