"""Passage search over corpora: two lists fused, equal passages shown once with all their owners."""

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
from services.datastore.store.results import Part, View

_LISTED_PER_HIT = 4


class Mode(Enum):
    """Which lists are asked."""

    HYBRID = "hybrid"
    DENSE = "dense"
    SPARSE = "sparse"


@dataclass(frozen=True)
class Place:
    """A passage of a live document: the corpus, and where in it."""

    corpus: str
    part: Part
    row: int
    passage: int

    @property
    def document(self) -> Document:
        """Whose it is."""
        return self.part.document(self.row)


@dataclass(frozen=True)
class Hit:
    """A passage that was found, and the others that hold the same tokens."""

    place: Place
    score: float
    dense: float
    sparse: float
    owners: tuple[Place, ...]


@dataclass(frozen=True)
class Searched:
    """What a search found, best first, and the states it saw by corpus."""

    hits: tuple[Hit, ...]
    views: dict[str, View]


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
    mode: Mode = Mode.HYBRID,
    min_epochs: Sequence[int] = (),
) -> Searched:
    """Find the k passages of some corpora that fit a query best.

    Parameters
    ----------
    corpora
        Of one model, or not: what is equal is told by tokens.
    text
        For BM25.
    vectors
        The query by each corpus's encoder, float32 [dim]; None where the mode asks for none.
    k, mode
        How many, and by which lists.
    min_epochs
        Of each corpus, where any: what it has to know of.

    Raises
    ------
    Aborted
        CORPUS_EPOCH: a corpus has not come so far.
    FailedPrecondition
        CORPUS_NOT_BUILT: DENSE, and no passage has a vector.
    """
    views = views_of(corpora, min_epochs)
    depth = max(RANK + 1, _LISTED_PER_HIT * k)
    while True:
        dense = _dense(corpora, views, vectors, depth, mode) if mode is not Mode.SPARSE else []
        sparse = _sparse(corpora, views, text, depth) if mode is not Mode.DENSE else []
        hits = _hits(corpora, views, dense, sparse, k)
        if len(hits) >= k or max(len(dense), len(sparse)) < depth:
            return Searched(tuple(hits), {c.spec.corpus: v for c, v in zip(corpora, views, strict=True)})
        depth *= 4  # the lists are full of copies


def views_of(corpora: Sequence[Corpus], min_epochs: Sequence[int] = ()) -> list[View]:
    """The corpora as they are now; raises Aborted (CORPUS_EPOCH) where one has not come as far as asked."""
    views = [corpus.view() for corpus in corpora]
    for corpus, view, wanted in zip(corpora, views, min_epochs, strict=False):
        if view.epoch < wanted:
            raise Aborted(
                Reason.CORPUS_EPOCH,
                f"{corpus.spec.corpus} is at epoch {view.epoch}, not yet at {wanted}; try again.",
                metadata={"epoch": view.epoch, "min_epoch": wanted},
                retry_after=0.1,
            )
    return views


def _dense(
    corpora: Sequence[Corpus],
    views: Sequence[View],
    vectors: Sequence[np.ndarray | None],
    depth: int,
    mode: Mode,
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
    if mode is Mode.DENSE and live and not rows:
        raise FailedPrecondition(
            Reason.CORPUS_NOT_BUILT,
            "No passage has a vector yet: run BuildIndex, or search by words (SPARSE).",
        )
    rows.sort(key=lambda row: -row[1])
    return rows[:depth]


def _sparse(
    corpora: Sequence[Corpus], views: Sequence[View], text: str, depth: int
) -> list[tuple[_Entry, float]]:
    parts = [
        (corpus.spec.corpus, part) for corpus, view in zip(corpora, views, strict=True) for part in view.parts
    ]
    with contextlib.ExitStack() as held:
        for corpus in sorted(
            corpora, key=lambda c: str(c.folder)
        ):  # one order: no two searches wait for each other
            held.enter_context(corpus.lock)
        found = best([part for _, part in parts], terms_of(text), depth)
    return [(_Entry(*parts[number], entry), score) for number, entry, score in found]


def _hits(
    corpora: Sequence[Corpus],
    views: Sequence[View],
    dense: list[tuple[_Entry, float]],
    sparse: list[tuple[_Entry, float]],
    k: int,
) -> list[Hit]:
    by_dense, by_sparse = dict(dense), dict(sparse)
    hits: list[Hit] = []
    seen: set[bytes] = set()
    locks = {corpus.spec.corpus: corpus.lock for corpus in corpora}
    for entry, score in fuse(by_dense, by_sparse):
        with locks[entry.corpus]:
            owners = entry.part.owners(entry.entry)
            if not owners:
                continue  # deleted since it was listed
            row, passage = owners[0]
            digest = entry.part.document(row).digest(passage)
        if digest in seen:
            continue
        seen.add(digest)
        place = Place(entry.corpus, entry.part, row, passage)
        hits.append(
            Hit(
                place,
                score,
                by_dense.get(entry, 0.0),
                by_sparse.get(entry, 0.0),
                owners_of(place, digest, corpora, views),
            )
        )
        if len(hits) == k:
            break
    return hits


def owners_of(
    place: Place, digest: bytes, corpora: Sequence[Corpus], views: Sequence[View]
) -> tuple[Place, ...]:
    """The other places of live documents that hold a passage's tokens, by their digest."""
    found = []
    for corpus, view in zip(corpora, views, strict=True):
        for part in view.parts:
            with corpus.lock:
                found += [Place(corpus.spec.corpus, part, *same) for same in part.same(digest)]
    return tuple(other for other in found if other != place)
