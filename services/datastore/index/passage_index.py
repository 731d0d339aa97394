"""Vector search over passages: one small interface, and FAISS on the local disk as the default."""

import importlib
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from palimpsest.errors import DataLoss, Reason

EXACT_BELOW = 50_000
"""With fewer vectors, exhaustive search is fast enough, and exact."""
_QUERIES, _RANK, _RECALL = 128, 200, 0.985
"""Tuning of an inverted file: number of queries, neighbours per query, and the recall to reach."""
_REFINED = 6
"""Candidates of the inverted file that are scored exactly, per result wanted."""


class VectorHits(NamedTuple):
    """Nearest vectors, best first: ids, int64 [n], and inner products, float32 [n]."""

    ids: np.ndarray
    scores: np.ndarray


class PassageIndex(Protocol):
    """Unit vectors by id. A removed id is never found again."""

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors, float [n, dim], under new ids, int64 [n]."""
        ...

    def search(self, query: np.ndarray, k: int) -> VectorHits:
        """The k vectors with the largest inner products with a query, float32 [dim]; fewer if there are fewer."""
        ...

    def remove(self, ids: Sequence[int] | np.ndarray) -> None:
        """Remove ids; unknown ids are ignored."""
        ...

    def count(self) -> int:
        """Number of vectors that can be found."""
        ...


class FaissIndex:
    """FAISS: exhaustive search over half-precision vectors while there are few, else an inverted file with refinement.

    The inverted file (IVF with 4-bit codes, or 8-bit codes if 4 bits miss the recall) holds the ids itself, because
    ``IndexIDMap`` over an inverted file crashes at its second removal. Removed ids stay in the file; searches skip
    them with a bitmap selector. Candidates are scored again with the stored vectors, so scores are exact.

    Parameters
    ----------
    vectors
        Stored vectors, float16 [n, dim], with ids from 0; may be mapped from disk.
    exact_below
        With fewer vectors than this, search is exhaustive.
    """

    def __init__(self, vectors: np.ndarray, *, exact_below: int = EXACT_BELOW) -> None:
        self._vectors = vectors
        self._exact_below = exact_below
        self._removed = np.zeros(len(vectors), bool)
        self._index: Any = None
        self._selector: Any = None
        self._bits = np.zeros(0, np.uint8)

    @classmethod
    def empty(cls, dim: int, *, exact_below: int = EXACT_BELOW) -> "FaissIndex":
        """An empty index, to be filled with ``add``."""
        return cls(np.zeros((0, dim), np.float16), exact_below=exact_below)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See ``PassageIndex``; the index is rebuilt at the next search."""
        size = max(len(self._vectors), int(ids.max()) + 1 if len(ids) else 0)
        larger = np.zeros((size, vectors.shape[1]), np.float16)
        larger[: len(self._vectors)] = self._vectors
        removed = np.ones(size, bool)
        removed[: len(self._removed)] = self._removed
        larger[ids], removed[ids] = vectors, False
        self._vectors, self._removed, self._index = larger, removed, None
        self._selector = None

    def remove(self, ids: Sequence[int] | np.ndarray) -> None:
        """See ``PassageIndex``."""
        wanted = np.asarray(ids, dtype=np.int64)
        self._removed[wanted[(wanted >= 0) & (wanted < len(self._removed))]] = True
        self._selector = None

    def count(self) -> int:
        """See ``PassageIndex``."""
        return int(len(self._removed) - self._removed.sum())

    def search(self, query: np.ndarray, k: int) -> VectorHits:
        """See ``PassageIndex``."""
        faiss = _faiss()
        k = min(k, self.count())
        if k <= 0:
            return VectorHits(np.zeros(0, np.int64), np.zeros(0, np.float32))
        index = self._built()
        if self._selector is None:
            self._bits = np.packbits(~self._removed, bitorder="little")
            self._selector = faiss.IDSelectorBitmap(self._bits)
        row = np.ascontiguousarray(query, np.float32)[None]  # [1, dim] float32
        if not isinstance(index, faiss.IndexIVF):
            scores, ids = index.search(row, k, params=faiss.SearchParameters(sel=self._selector))
            return _trimmed(ids[0], scores[0])
        wanted, nprobe = min(_REFINED * max(k, 100), len(self._removed)), index.nprobe
        while True:
            params = faiss.SearchParametersIVF(sel=self._selector, nprobe=nprobe)
            _, ids = index.search(row, wanted, params=params)
            found = ids[0][ids[0] >= 0]
            if len(found) >= k or nprobe >= index.nlist:
                break
            nprobe *= 2  # too many of the nearest vectors are removed: probe more lists
        scores = self._vectors[found].astype(np.float32) @ row[0]  # [candidates, dim] x [dim] -> [candidates]
        best = np.argsort(-scores, kind="stable")[:k]  # [k] int64
        return VectorHits(found[best], scores[best])

    def _built(self) -> Any:
        if self._index is None:
            self.build()
        return self._index

    def build(self) -> None:
        """Build the index; otherwise the first search does."""
        faiss = _faiss()
        size, dim = self._vectors.shape
        if size < self._exact_below:
            index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            for at in range(0, size, 8192):
                index.add(self._vectors[at : at + 8192].astype(np.float32))
            self._index = index
            return
        # 4-bit codes are scanned several times as fast, and separate most vectors well enough to be refined.
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
        """Choose the smallest number of lists to probe that reaches the recall; False if even all lists miss it.

        Queries resemble stored vectors without being any of them: noise of half their length is added. The recall is
        measured at twice the usual number of neighbours, to leave room for vectors removed later.
        """
        queries = self._vectors[np.sort(rows[:_QUERIES])].astype(np.float32)  # [queries, dim]
        noise = np.random.default_rng(0).normal(size=queries.shape).astype(np.float32)
        queries += 0.5 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        k = min(_RANK, len(self._vectors))
        best = self._exact_neighbours(queries, k)
        nprobe = 8
        while True:
            self._index.nprobe = nprobe
            _, ids = self._index.search(queries, min(_REFINED * k, len(self._vectors)))
            recall = np.mean([np.isin(b, i).mean() for b, i in zip(best, ids, strict=True)])
            if recall >= _RECALL or nprobe >= self._index.nlist:
                return bool(recall >= _RECALL)
            nprobe = min(nprobe * 5 // 4, self._index.nlist)

    def _exact_neighbours(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Ids of the k nearest vectors of each query by exhaustive search, int64 [queries, k], unordered."""
        best = np.full((len(queries), k), -1, np.int64)
        best_scores = np.full((len(queries), k), -np.inf, np.float32)
        for at in range(0, len(self._vectors), 8192):
            scores = queries @ self._vectors[at : at + 8192].astype(np.float32).T  # [queries, block] float32
            ids = np.broadcast_to(np.arange(at, at + scores.shape[1]), scores.shape)  # [queries, block] int64
            scores = np.concatenate([best_scores, scores], axis=1)  # [queries, k + block]
            ids = np.concatenate([best, ids], axis=1)
            top = np.argpartition(-scores, k - 1, axis=1)[:, :k]  # [queries, k] int64
            best_scores, best = np.take_along_axis(scores, top, 1), np.take_along_axis(ids, top, 1)
        return best

    def save(self, path: Path) -> None:
        """Write the inverted file, if there is one; exhaustive search needs no file."""
        faiss = _faiss()
        if self._index is None:
            self.build()
        if isinstance(self._index, faiss.IndexIVF):
            # Not FAISS's own file, which says nothing where the last bytes find no room on the disk.
            with path.open("wb") as file:
                faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    def load(self, path: Path) -> None:
        """Map a file that ``save`` wrote.

        Raises
        ------
        DataLoss
            CORPUS_DAMAGED.
        """
        faiss = _faiss()
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise DataLoss(Reason.CORPUS_DAMAGED, f"{path.name} is damaged: {error}. Restore it.") from None
        count, expected = self._index.ntotal, len(self._vectors)
        if count != expected:
            message = f"{path.name} has {count} vectors and its segment {expected}. Restore it from a backup."
            raise DataLoss(Reason.CORPUS_DAMAGED, message)


@cache
def _faiss() -> Any:
    """Import FAISS at its first use, untyped: its type stubs disagree with its wrappers."""
    faiss = importlib.import_module("faiss")
    # A search takes a few milliseconds on one thread; waking more threads costs more than it saves.
    faiss.omp_set_num_threads(1)
    return faiss


def _trimmed(ids: np.ndarray, scores: np.ndarray) -> VectorHits:
    kept = ids >= 0
    return VectorHits(ids[kept], scores[kept])
