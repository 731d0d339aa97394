"""Where passage vectors are searched: one small interface, and FAISS on this machine's disk as the default."""

import importlib
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from palimpsest.errors import DataLoss, Reason

EXACT_BELOW = 50_000
"""Vectors below which searching all of them is fast enough, and exact."""
_QUERIES, _RANK, _RECALL = 128, 200, 0.985
"""An inverted file is tuned until it finds this share of so many best, for so many queries."""
_REFINED = 6
"""Hits of the inverted file that are scored exactly, for each that is wanted."""


class Hits(NamedTuple):
    """What a search found, best first: ids, int64 [n], and inner products, float32 [n]."""

    ids: np.ndarray
    scores: np.ndarray


class PassageIndex(Protocol):
    """Vectors of unit length by number. What is removed is never found again."""

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors, float [n, dim], under ids, int64 [n], that are not there yet."""
        ...

    def search(self, query: np.ndarray, k: int) -> Hits:
        """The k of the largest inner product with a query, float32 [dim]; fewer if there are no more."""
        ...

    def remove(self, ids: Sequence[int] | np.ndarray) -> None:
        """Have ids not found any more; those that are not there are let pass."""
        ...

    def count(self) -> int:
        """How many can be found."""
        ...


class FaissIndex:
    """FAISS: exact over half-precision vectors while there are few, an inverted file with exact refinement above.

    The inverted file (IVF over codes of four bits, of eight where those do not do) holds the ids itself: ``IndexIDMap``
    over one ends the process at its second removal. And nothing is removed from it at all: searches go around what is
    gone (a bitmap selector). Its hits are scored again with the stored vectors, so scores are exact.

    Parameters
    ----------
    vectors
        Stored vectors, float16 [n, dim], which ids number from 0; may be mapped from disk.
    exact_below
        Below so many the search is exact.
    """

    def __init__(self, vectors: np.ndarray, *, exact_below: int = EXACT_BELOW) -> None:
        self._vectors = vectors
        self._exact_below = exact_below
        self._gone = np.zeros(len(vectors), bool)
        self._index: Any = None
        self._selector: Any = None
        self._bits = np.zeros(0, np.uint8)

    @classmethod
    def empty(cls, dim: int, *, exact_below: int = EXACT_BELOW) -> "FaissIndex":
        """An index to ``add`` to."""
        return cls(np.zeros((0, dim), np.float16), exact_below=exact_below)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See ``PassageIndex``; what is built is built again at the next search."""
        size = max(len(self._vectors), int(ids.max()) + 1 if len(ids) else 0)
        larger = np.zeros((size, vectors.shape[1]), np.float16)
        larger[: len(self._vectors)] = self._vectors
        gone = np.ones(size, bool)
        gone[: len(self._gone)] = self._gone
        larger[ids], gone[ids] = vectors, False
        self._vectors, self._gone, self._index = larger, gone, None
        self._selector = None

    def remove(self, ids: Sequence[int] | np.ndarray) -> None:
        """See ``PassageIndex``."""
        wanted = np.asarray(ids, dtype=np.int64)
        self._gone[wanted[(wanted >= 0) & (wanted < len(self._gone))]] = True
        self._selector = None

    def count(self) -> int:
        """See ``PassageIndex``."""
        return int(len(self._gone) - self._gone.sum())

    def search(self, query: np.ndarray, k: int) -> Hits:
        """See ``PassageIndex``."""
        faiss = _faiss()
        k = min(k, self.count())
        if k <= 0:
            return Hits(np.zeros(0, np.int64), np.zeros(0, np.float32))
        index = self._built()
        if self._selector is None:
            self._bits = np.packbits(~self._gone, bitorder="little")
            self._selector = faiss.IDSelectorBitmap(self._bits)
        row = np.ascontiguousarray(query, np.float32)[None]
        if not isinstance(index, faiss.IndexIVF):
            scores, ids = index.search(row, k, params=faiss.SearchParameters(sel=self._selector))
            return _trimmed(ids[0], scores[0])
        wanted, nprobe = min(_REFINED * max(k, 100), len(self._gone)), index.nprobe
        while True:
            params = faiss.SearchParametersIVF(sel=self._selector, nprobe=nprobe)
            _, ids = index.search(row, wanted, params=params)
            found = ids[0][ids[0] >= 0]
            if len(found) >= k or nprobe >= index.nlist:
                break
            nprobe *= 2  # what is near has been deleted: look further
        scores = self._vectors[found].astype(np.float32) @ row[0]
        best = np.argsort(-scores, kind="stable")[:k]
        return Hits(found[best], scores[best])

    def _built(self) -> Any:
        if self._index is None:
            self.build()
        return self._index

    def build(self) -> None:
        """Build what searches use; done by the first search otherwise."""
        faiss = _faiss()
        size, dim = self._vectors.shape
        if size < self._exact_below:
            index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            for at in range(0, size, 8192):
                index.add(self._vectors[at : at + 8192].astype(np.float32))
            self._index = index
            return
        # Codes of four bits are scanned several times as fast, and tell most vectors apart well enough to refine.
        for index in (self._four_bits(), self._eight_bits()):
            index.cp.niter, index.cp.seed = 10, 1
            rows = np.random.default_rng(0).choice(size, min(size, 40 * index.nlist), replace=False)
            index.train(self._vectors[np.sort(rows)].astype(np.float32))
            for at in range(0, size, 8192):
                block = self._vectors[at : at + 8192].astype(np.float32)
                index.add_with_ids(block, np.arange(at, at + len(block), dtype=np.int64))
            self._index = index
            if self._tune(rows):
                return

    def _four_bits(self) -> Any:
        faiss, (size, dim) = _faiss(), self._vectors.shape
        lists = max(1, min(1 << round(math.log2(math.sqrt(size))), size // 40))
        parts = dim // 4 if dim % 4 == 0 else dim
        return faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(dim), dim, lists, parts, 4, faiss.METRIC_INNER_PRODUCT
        )

    def _eight_bits(self) -> Any:
        faiss, (size, dim) = _faiss(), self._vectors.shape
        lists = max(1, min(1 << round(math.log2(4 * math.sqrt(size))), size // 40))
        return faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )

    def _tune(self, rows: np.ndarray) -> bool:
        """Probe as few lists as find what exact search finds; False if all of them do not.

        Queries are like stored vectors, but none of them: noise of half their length is added. Twice as many neighbours
        are asked for as will be, for those that have been deleted by then.
        """
        queries = self._vectors[np.sort(rows[:_QUERIES])].astype(np.float32)
        noise = np.random.default_rng(0).normal(size=queries.shape).astype(np.float32)
        queries += 0.5 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        k = min(_RANK, len(self._vectors))
        best = np.full((len(queries), k), -1, np.int64)
        found = np.full((len(queries), k), -np.inf, np.float32)
        for at in range(0, len(self._vectors), 8192):
            scores = queries @ self._vectors[at : at + 8192].astype(np.float32).T
            both = np.concatenate([found, scores], axis=1)
            ids = np.concatenate(
                [best, np.broadcast_to(np.arange(at, at + scores.shape[1]), scores.shape)], axis=1
            )
            top = np.argpartition(-both, k - 1, axis=1)[:, :k]
            found, best = np.take_along_axis(both, top, 1), np.take_along_axis(ids, top, 1)
        nprobe = 8
        while True:
            self._index.nprobe = nprobe
            _, ids = self._index.search(queries, min(_REFINED * k, len(self._vectors)))
            recall = np.mean([np.isin(b, i).mean() for b, i in zip(best, ids, strict=True)])
            if recall >= _RECALL or nprobe >= self._index.nlist:
                return bool(recall >= _RECALL)
            nprobe = min(nprobe * 5 // 4, self._index.nlist)

    def save(self, path: Path) -> None:
        """Write what was trained; an exact index needs no file."""
        faiss = _faiss()
        if self._index is None:
            self.build()
        if isinstance(self._index, faiss.IndexIVF):
            faiss.write_index(self._index, str(path))

    def load(self, path: Path) -> None:
        """Map what ``save`` wrote.

        Raises
        ------
        DataLoss
            CORPUS_DAMAGED.
        """
        faiss = _faiss()
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise DataLoss(Reason.CORPUS_DAMAGED, f"{path.name} is damaged: {error}") from None
        if self._index.ntotal != len(self._vectors):
            raise DataLoss(Reason.CORPUS_DAMAGED, f"{path.name} does not belong to its segment.")


@cache
def _faiss() -> Any:
    """The library, at its first use; its stubs and its wrappers disagree."""
    faiss = importlib.import_module("faiss")
    # A search is a few milliseconds of one thread; waking others, and waiting for them, costs more than it saves.
    faiss.omp_set_num_threads(1)
    return faiss


def _trimmed(ids: np.ndarray, scores: np.ndarray) -> Hits:
    kept = ids >= 0
    return Hits(ids[kept], scores[kept])
