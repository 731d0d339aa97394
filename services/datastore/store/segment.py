"""A sealed part of a corpus: immutable files, mapped, and what has been deleted since in memory."""

import mmap
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from palimpsest.errors import DataLoss, Reason
from services.datastore.files import load_array, verify_checksums
from services.datastore.index.liveness import Liveness
from services.datastore.index.passage_index import PassageIndex
from services.datastore.index.suffixes import Matches, Occurrences, Separated, longest_live, longest_suffix
from services.datastore.store.documents import Document, Head
from services.datastore.store.memtable import Postings


class SegmentFiles:
    """The files of a segment, checked once; see ``segment_writer`` for what they hold.

    Raises
    ------
    DataLoss
        CORPUS_DAMAGED: a file is missing, or its bytes are not those written.
    """

    def __init__(self, folder: Path) -> None:
        verify_checksums(folder)
        self.folder, self.name = folder, folder.name
        self.docs = _mapped(folder / "docs.bin")
        self.heads = _mapped(folder / "heads.bin")

    def __getattr__(self, name: str) -> np.ndarray:
        """An array, mapped at its first use."""
        array = load_array(self.folder / f"{name}.npy")
        setattr(self, name, array)
        return array

    @cached_property
    def separated(self) -> Separated:
        """The text the suffix array is of."""
        return Separated(self.tokens, self.doc_token)


def _mapped(path: Path) -> memoryview:
    """A file's bytes, read as they are looked at."""
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class Segment:
    """A segment as one manifest sees it. Reading needs no lock; ``kill`` needs the corpus's.

    Parameters
    ----------
    files
        Shared by all views of the segment.
    passage_tokens
        Tokens of every passage but a document's last.
    index
        Where its vectors are searched.
    dead
        Rows of documents that are gone.
    """

    def __init__(
        self,
        files: SegmentFiles,
        passage_tokens: int,
        index: PassageIndex,
        dead: Iterable[int] = (),
    ) -> None:
        self.files, self.name, self._passage_tokens = files, files.name, passage_tokens
        self.lengths: np.ndarray = files.length
        self.liveness = Liveness(len(files.doc_start) - 1, np.diff(files.entry_start), files.length)
        self._index = index
        for row in dead:
            self.kill(row)

    @property
    def entries(self) -> int:
        """Different passages: see ``Memtable``."""
        return len(self.files.entry_start) - 1

    @property
    def tokens(self) -> int:
        """Tokens of all documents, those that are gone included."""
        return len(self.files.tokens)

    @property
    def dead(self) -> list[int]:
        """Rows of documents that are gone."""
        return np.flatnonzero(~self.liveness.documents).tolist()

    @property
    def dead_tokens(self) -> int:
        """Tokens of documents that are gone."""
        counts = np.diff(self.files.doc_token)
        return int(counts[~self.liveness.documents].sum())

    @property
    def live_tokens(self) -> int:
        """Tokens of documents that are there."""
        return self.tokens - self.dead_tokens

    def find(self, digest: bytes) -> Iterator[tuple[int, Head]]:
        """Rows of a document's versions, by the digest of its id."""
        wanted = np.uint64(int.from_bytes(digest[:8], "little"))
        at = int(np.searchsorted(self.files.id_hash, wanted))
        while at < len(self.files.id_hash) and self.files.id_hash[at] == wanted:
            row = int(self.files.id_row[at])
            head = self.head(row)
            if head.id_digest == digest:
                yield row, head
            at += 1

    def kill(self, row: int) -> bool:
        """Take a document out; False if it was."""
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
        """Where a term is: see ``Memtable.postings``."""
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
        """The k live entries of the largest inner products with a query, float32 [dim]."""
        hits = self._index.search(query, k)
        return hits.ids, hits.scores

    def owners(self, entry: int) -> list[tuple[int, int]]:
        """Live passages of an entry: document row, number in the document."""
        start, end = self.files.entry_start[entry : entry + 2]
        return self._live(self.files.entry_passage[start:end].tolist())

    def same(self, digest: bytes) -> list[tuple[int, int]]:
        """Live passages with some tokens, by their digest."""
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
        """A document by its row; its bytes and arrays are views of the files."""
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

    def head(self, row: int) -> Head:
        """What a document is called.

        Raises
        ------
        DataLoss
            CORPUS_DAMAGED: the files have changed since they were checked.
        """
        start, end = self.files.head_start[row : row + 2]
        try:
            return Head.from_json(bytes(self.files.heads[start:end]))
        except (ValueError, TypeError):
            raise DataLoss(Reason.CORPUS_DAMAGED, f"{self.name}/heads.bin is damaged.") from None

    def vectors(self, row: int) -> np.ndarray:
        """Vectors of a document's passages, float16 [passages, dim]."""
        first, end = self.files.doc_passage[row : row + 2]
        return self.files.vectors[self.files.passage_entry[first:end]]

    def characters(self, row: int, passage: int) -> int:
        """Code points before a passage."""
        return int(self.files.passage_char[int(self.files.doc_passage[row]) + passage])

    def live_documents(self) -> Iterator[int]:
        """Rows of the documents that are there."""
        return iter(np.flatnonzero(self.liveness.documents).tolist())

    def suffix(
        self, context: np.ndarray, shortest: int, longest: int, limit: int
    ) -> tuple[int, list[Occurrences]]:
        """Find the longest suffix of a context that stands in a live document and goes on there.

        Parameters
        ----------
        context
            Token ids, int [n].
        shortest, longest
            Bounds of the match, in tokens.
        limit
            Most occurrences to return.

        Returns
        -------
        tuple
            Length of the match, 0 for none, and the token after it in each document.
        """
        text, array = self.files.separated, self.files.suffixes

        def find(most: int) -> Matches:
            return longest_suffix(text, array, context, shortest, most)

        return longest_live(find, text.starts, text.sizes, self.liveness.documents, longest, limit)

    def ids(self, row: int, start: int, end: int) -> np.ndarray:
        """Token ids of a document, from one token to another or to its last; int32 [n]."""
        first, last = (int(n) for n in self.files.doc_token[row : row + 2])
        return self.files.tokens[first + start : min(first + end, last)].astype(np.int32)
