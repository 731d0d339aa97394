"""Writing a segment: documents in, arrays out, checksums last. A folder without checksums is not a segment.

With D documents, P passages, E entries (distinct passages), T tokens, U distinct terms and N postings::

    docs.bin, doc_start             raw bytes of all documents; int64 [D + 1] offsets
    heads.bin, head_start           heads as JSON; int64 [D + 1] offsets
    id_hash, id_row                 first 8 bytes of each id's digest, uint64 [D] ascending; document rows, uint32 [D]
    tokens, doc_token               ids, uint16 or uint32 [T]; first token of each document, int64 [D + 1]
    token_start                     byte offset of each token in its document, and of its end, uint32 [T + D]
    doc_passage                     first passage of each document, int64 [D + 1]
    passage_entry, passage_char     entry of each passage, uint32 [P]; code points before it, uint32 [P]
    digest, digest_row              first 8 bytes of passage digests, uint64 [P] ascending; passages, uint32 [P]
    entry_start, entry_passage      passages of each entry: offsets int64 [E + 1] into uint32 [P]
    term, term_start                term hashes, uint64 [U] ascending; first posting of each, int64 [U + 1]
    posting_entry, posting_count    entry of each posting, uint32 [N]; the term's count there, uint16 [N]
    length                          terms in each entry, int32 [E]
    vectors                         float16 [E, dim]
    passages.faiss                  the inverted file, if there are enough vectors
    suffixes                        suffix array over the tokens with a separator after each document, uint32 [T + D]
"""

from array import array
from pathlib import Path

import numpy as np

from palimpsest.progress import Progress
from services.datastore.files import save_array, write_checksums
from services.datastore.index.passage_index import EXACT_BELOW, FaissIndex
from services.datastore.index.suffixes import suffix_array
from services.datastore.store.documents import Document


class SegmentWriter:
    """Collects documents and writes their segment.

    Parameters
    ----------
    folder
        Created by the writer; must not exist.
    dim
        Dimension of passage vectors.
    vocabulary
        Size of the vocabulary; up to 65,536 ids are stored in 16 bits.
    """

    def __init__(self, folder: Path, dim: int, vocabulary: int) -> None:
        folder.mkdir()
        self.folder = folder
        self._dim = dim
        self._token_type = np.uint16 if vocabulary <= 1 << 16 else np.uint32
        self._docs = open(folder / "docs.bin", "wb")  # noqa: SIM115
        self._heads = open(folder / "heads.bin", "wb")  # noqa: SIM115
        self._doc_start, self._head_start = array("q", [0]), array("q", [0])
        self._ids: list[int] = []
        self._tokens: list[np.ndarray] = []
        self._starts: list[np.ndarray] = []
        self._doc_token, self._doc_passage = array("q", [0]), array("q", [0])
        self._passage_entry, self._passage_char = array("I"), array("I")
        self._digests = array("Q")
        self._entry_of: dict[tuple[str, bytes, tuple[bytes, bytes]], int] = {}
        self._owners: list[list[int]] = []
        self._terms, self._posting_entry, self._counts = array("Q"), array("I"), array("I")
        self._lengths = array("I")
        self._vectors: list[np.ndarray] = []

    @property
    def documents(self) -> int:
        """Number of documents added."""
        return len(self._ids)

    @property
    def tokens(self) -> int:
        """Tokens of all documents added."""
        return self._doc_token[-1]

    def add(self, document: Document, vectors: np.ndarray) -> None:
        """Add a document with the vectors of its passages, float [passages, dim]."""
        self._docs.write(document.data)
        self._doc_start.append(self._doc_start[-1] + len(document.data))
        head = document.head.to_json()
        self._heads.write(head)
        self._head_start.append(self._head_start[-1] + len(head))
        self._ids.append(int.from_bytes(document.head.id_digest[:8], "little"))
        self._tokens.append(document.tokens.astype(self._token_type))
        self._starts.append(document.starts.astype(np.uint32))
        self._doc_token.append(self._doc_token[-1] + len(document.tokens))
        begins = (np.frombuffer(document.data, np.uint8) & 0xC0) != 0x80
        before, at = 0, 0
        for number in range(document.passages):
            first = int(document.starts[document.span(number)[0]])
            before, at = before + int(np.count_nonzero(begins[at:first])), first
            self._passage_char.append(before)
            digest = document.digest(number)
            self._digests.append(int.from_bytes(digest[:8], "little"))
            entry = self._entry(document, number, digest, vectors[number])
            self._owners[entry].append(len(self._passage_entry))
            self._passage_entry.append(entry)
        self._doc_passage.append(len(self._passage_entry))

    def _entry(self, document: Document, number: int, digest: bytes, vector: np.ndarray) -> int:
        key = (document.head.title, digest, document.edges(number))
        entry = self._entry_of.get(key)
        if entry is None:
            entry = self._entry_of[key] = len(self._owners)
            self._owners.append([])
            self._vectors.append(np.asarray(vector, np.float16))
            terms = document.terms(number)
            self._lengths.append(terms.total())
            self._terms.extend(terms.keys())
            self._counts.extend(terms.values())
            self._posting_entry.extend([entry] * len(terms))
        return entry

    def finish(self, progress: Progress, *, exact_below: int = EXACT_BELOW) -> int:
        """Write the arrays; returns the segment's size in bytes. No document can be added afterwards."""
        self._docs.close()
        self._heads.close()
        self._save("doc_start", np.asarray(self._doc_start))
        self._save("head_start", np.asarray(self._head_start))
        self._sorted("id_hash", "id_row", np.asarray(self._ids, np.uint64))
        tokens = np.concatenate(self._tokens) if self._tokens else np.zeros(0, self._token_type)
        self._save("tokens", tokens)
        self._save("doc_token", np.asarray(self._doc_token))
        self._save("token_start", np.concatenate([*self._starts, np.zeros(0, np.uint32)]))
        self._save("doc_passage", np.asarray(self._doc_passage))
        self._save("passage_entry", np.asarray(self._passage_entry))
        self._save("passage_char", np.asarray(self._passage_char))
        self._sorted("digest", "digest_row", np.asarray(self._digests, np.uint64))
        counts = np.fromiter((len(o) for o in self._owners), np.int64, len(self._owners))
        self._save("entry_start", np.concatenate(([0], np.cumsum(counts))).astype(np.int64))
        self._save("entry_passage", np.fromiter((p for o in self._owners for p in o), np.uint32))
        self._save("length", np.asarray(self._lengths).astype(np.int32))
        progress.step(0, 0, "sorting terms")
        self._postings()
        progress.step(0, 0, "indexing vectors")
        vectors = np.stack(self._vectors) if self._vectors else np.zeros((0, self._dim), np.float16)
        self._save("vectors", vectors)
        if len(vectors) >= exact_below:
            index = FaissIndex(vectors, exact_below=exact_below)
            index.save(self.folder / "passages.faiss")
        progress.step(0, 0, "sorting suffixes")
        self._save("suffixes", suffix_array(separated(tokens, np.asarray(self._doc_token)), progress))
        progress.step(0, 0, "checking")
        return write_checksums(self.folder)

    def _save(self, name: str, values: np.ndarray) -> None:
        save_array(self.folder / f"{name}.npy", values)

    def _sorted(self, keys: str, rows: str, values: np.ndarray) -> None:
        order = np.argsort(values, kind="stable")
        self._save(keys, values[order])
        self._save(rows, order.astype(np.uint32))

    def _postings(self) -> None:
        terms = np.asarray(self._terms, dtype=np.uint64)
        order = np.argsort(terms, kind="stable")  # stable: entries stay ascending within a term
        ordered = terms[order]
        first = (
            np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else order
        )
        self._save("term", ordered[first])
        self._save("term_start", np.append(first, len(ordered)).astype(np.int64))
        self._save(
            "posting_entry", np.asarray(self._posting_entry)[order] if len(order) else np.zeros(0, np.uint32)
        )
        counts = np.asarray(self._counts)[order] if len(order) else np.zeros(0, np.uint32)
        self._save("posting_count", np.minimum(counts, 65535).astype(np.uint16))


def separated(tokens: np.ndarray, doc_token: np.ndarray) -> np.ndarray:
    """Token ids plus one with a 0 after each document, int32 [T + D]; documents begin at ``doc_token``, [D + 1]."""
    documents = len(doc_token) - 1
    text = np.zeros(len(tokens) + documents, np.int32)  # [T + D]
    rows = np.repeat(np.arange(documents), np.diff(doc_token))  # [T] document row of each token
    text[np.arange(len(tokens)) + rows] = (
        tokens.astype(np.int32) + 1
    )  # a row has as many separators before it
    return text
