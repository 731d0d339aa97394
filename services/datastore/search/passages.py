"""Passage search over corpora: dense and sparse results are fused, and equal passages are returned once."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from palimpsest.errors import Aborted, FailedPrecondition, Reason
from services.datastore.index.analysis import terms_of
from services.datastore.search.bm25 import best
from services.datastore.search.fusion import RANK, fuse
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document
from services.datastore.store.memtable import Memtable
from services.datastore.store.results import CorpusView, Part

_CANDIDATES_PER_HIT = 4
"""Entries taken from each list per hit wanted."""


class SearchMode(Enum):
    """Which indexes a search uses."""

    HYBRID = "hybrid"
    DENSE = "dense"
    SPARSE = "sparse"


@dataclass(frozen=True)
class PassageSource:
    """A passage of a live document: its corpus, part, document row and number within the document."""

    corpus: str
    part: Part
    row: int
    passage: int

    @property
    def document(self) -> Document:
        """The document that holds the passage."""
        return self.part.document(self.row)


@dataclass(frozen=True)
class PassageHit:
    """A passage that was found, and the other passages with the same tokens.

    Attributes
    ----------
    score
        The fused score.
    dense, sparse
        Cosine and BM25 scores; 0 if the passage was not in that list.
    owners
        Passages of other live documents with the same tokens.
    """

    source: PassageSource
    score: float
    dense: float
    sparse: float
    owners: tuple[PassageSource, ...]


@dataclass(frozen=True)
class SearchResults:
    """The hits of a search, best first, and the view of each corpus that was searched."""

    hits: tuple[PassageHit, ...]
    views: dict[str, CorpusView]


@dataclass(frozen=True)
class _Entry:
    corpus: str
    part: Part
    entry: int


def search(
    corpora: Sequence[Corpus],
    text: str,
    vectors: Sequence[np.ndarray | None],
    k: int,
    mode: SearchMode = SearchMode.HYBRID,
    min_epochs: Sequence[int] = (),
) -> SearchResults:
    """Find the k passages of some corpora that match a query best.

    Parameters
    ----------
    corpora
        The corpora, of any models: passages are equal if their tokens are.
    text
        The query for BM25.
    vectors
        The query encoded by each corpus's encoder, float32 [dim]; None if the mode needs none.
    k, mode
        Number of passages, and the indexes to use.
    min_epochs
        For each corpus, if given: the epoch it must have reached.

    Raises
    ------
    Aborted
        CORPUS_EPOCH: a corpus has not reached its epoch.
    FailedPrecondition
        CORPUS_NOT_BUILT: the mode is DENSE, and no passage has a vector.
    """
    views = views_of(corpora, min_epochs)
    depth = max(RANK + 1, _CANDIDATES_PER_HIT * k)
    while True:
        dense = _dense(corpora, views, vectors, depth, mode) if mode is not SearchMode.SPARSE else []
        sparse = _sparse(corpora, views, text, depth) if mode is not SearchMode.DENSE else []
        hits = _hits(corpora, views, dense, sparse, k)
        if len(hits) >= k or max(len(dense), len(sparse)) < depth:
            return SearchResults(tuple(hits), {c.spec.corpus: v for c, v in zip(corpora, views, strict=True)})
        depth *= 4  # too many entries are copies of each other: look further down the lists


def views_of(corpora: Sequence[Corpus], min_epochs: Sequence[int] = ()) -> list[CorpusView]:
    """The current view of each corpus; raises Aborted (CORPUS_EPOCH) if one has not reached its epoch."""
    views = [corpus.view() for corpus in corpora]
    for corpus, view, min_epoch in zip(corpora, views, min_epochs, strict=False):
        if view.epoch < min_epoch:
            raise Aborted(
                Reason.CORPUS_EPOCH,
                f"corpora/{corpus.spec.corpus} is at epoch {view.epoch} and has not reached {min_epoch}. Retry.",
                metadata={"epoch": view.epoch, "min_epoch": min_epoch},
                retry_after=0.1,
            )
    return views


def _dense(
    corpora: Sequence[Corpus],
    views: Sequence[CorpusView],
    vectors: Sequence[np.ndarray | None],
    depth: int,
    mode: SearchMode,
) -> list[tuple[_Entry, float]]:
    rows: list[tuple[_Entry, float]] = []
    live = 0
    for corpus, view, vector in zip(corpora, views, vectors, strict=True):
        for part in view.parts:
            live += part.liveness.count
            if vector is None:
                continue
            with corpus.lock if isinstance(part, Memtable) else contextlib.nullcontext():
                entries, scores = part.dense(vector, depth)
            rows += [
                (_Entry(corpus.spec.corpus, part, entry), score)
                for entry, score in zip(entries.tolist(), scores.tolist(), strict=True)
            ]
    if mode is SearchMode.DENSE and live and not rows:
        raise FailedPrecondition(
            Reason.CORPUS_NOT_BUILT,
            "No passage has a vector yet. Run BuildIndex, or search by words with SPARSE.",
        )
    rows.sort(key=lambda row: -row[1])
    return rows[:depth]


def _sparse(
    corpora: Sequence[Corpus], views: Sequence[CorpusView], text: str, depth: int
) -> list[tuple[_Entry, float]]:
    parts = [
        (corpus.spec.corpus, part) for corpus, view in zip(corpora, views, strict=True) for part in view.parts
    ]
    with contextlib.ExitStack() as locks:
        # Locked in one order, so that two searches cannot deadlock.
        for corpus in sorted(corpora, key=lambda c: str(c.folder)):
            locks.enter_context(corpus.lock)
        found = best([part for _, part in parts], terms_of(text), depth)
    return [(_Entry(*parts[number], entry), score) for number, entry, score in found]


def _hits(
    corpora: Sequence[Corpus],
    views: Sequence[CorpusView],
    dense: list[tuple[_Entry, float]],
    sparse: list[tuple[_Entry, float]],
    k: int,
) -> list[PassageHit]:
    by_dense, by_sparse = dict(dense), dict(sparse)
    hits: list[PassageHit] = []
    seen: set[bytes] = set()
    locks = {corpus.spec.corpus: corpus.lock for corpus in corpora}
    for entry, score in fuse(by_dense, by_sparse):
        with locks[entry.corpus]:
            owners = entry.part.owners(entry.entry)
            if not owners:
                continue  # deleted since the index listed it
            row, passage = owners[0]
            digest = entry.part.document(row).digest(passage)
        if digest in seen:
            continue
        seen.add(digest)
        source = PassageSource(entry.corpus, entry.part, row, passage)
        hits.append(
            PassageHit(
                source,
                score,
                by_dense.get(entry, 0.0),
                by_sparse.get(entry, 0.0),
                owners_of(source, digest, corpora, views),
            )
        )
        if len(hits) == k:
            break
    return hits


def owners_of(
    source: PassageSource, digest: bytes, corpora: Sequence[Corpus], views: Sequence[CorpusView]
) -> tuple[PassageSource, ...]:
    """The passages of other live documents with the same tokens, by the digest of the tokens."""
    found = []
    for corpus, view in zip(corpora, views, strict=True):
        for part in view.parts:
            with corpus.lock:
                found += [PassageSource(corpus.spec.corpus, part, *same) for same in part.same(digest)]
    return tuple(other for other in found if other != source)
