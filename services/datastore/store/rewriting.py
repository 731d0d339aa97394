"""Rewriting part of a corpus: documents are written into new segments, which replace old segments and logs at once.

A rewrite takes over the corpus first, so a job that was presumed dead cannot publish when it wakes. New segments are
written without the lock; documents deleted meanwhile are marked as deleted in them when they are published.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from palimpsest.progress import Progress
from services.datastore.index.encoder import Encoder
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document
from services.datastore.store.manifest import SegmentEntry, log_name, tomb_name
from services.datastore.store.memtable import Memtable
from services.datastore.store.results import Part
from services.datastore.store.segment import Segment, SegmentFiles
from services.datastore.store.segment_writer import SegmentWriter

SEGMENT_TOKENS = 16 << 20
"""Tokens at which a segment is full; the next document starts a new one."""
_ENCODE_PASSAGES, _ENCODE_DOCUMENTS = 512, 4096
"""Documents are encoded in batches of about this many passages without vectors, or this many documents."""

Source = tuple[Part, int]
"""A document to write: its part, and its row there."""


@dataclass(frozen=True)
class RewriteResult:
    """The epoch a rewrite published, and the documents, tokens and segments it wrote."""

    epoch: int
    documents: int
    tokens: int
    segments: int


class _WrittenDocument(NamedTuple):
    """Where a document was written, and what identifies it if it is deleted before the segments are published."""

    segment: str
    row: int
    digest: bytes
    version: int


class Rewrite:
    """One job's rewrite of a corpus; use it as a context manager.

    Entering has taken over the corpus and fixed the documents to write. Leaving with an error removes the new segments.

    Parameters
    ----------
    corpus
        The corpus to rewrite.
    choose
        Returns the segments to replace, out of the segments that can be read.
    seal
        Whether to replace the logs too.
    """

    def __init__(
        self, corpus: Corpus, choose: Callable[[Sequence[Segment]], list[Segment]], *, seal: bool
    ) -> None:
        self._corpus = corpus
        self._fence = corpus.take_over(rotate=seal).fence
        self._remove_leftovers()
        segments = choose(corpus.segments)
        logs = corpus.sealable_logs() if seal else []
        with corpus.lock:
            self._since = corpus.epoch
            self._sources: list[Source] = [(part, row) for part in segments for row in part.live_documents()]
            self._sources += [(part, row) for _, part in logs for row in part.live_documents()]
        self._replaced_segments = {segment.name for segment in segments}
        self._sealed_logs = [number for number, _ in logs]
        self._entries: list[SegmentEntry] = []
        self._written: list[_WrittenDocument] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        published = {entry.name for entry in self._corpus.manifest.segments}
        for folder in self._corpus.folder.glob(f"seg-{self._fence:08d}-*"):
            if folder.name not in published:
                shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, FileNotFoundError):
            self._corpus.refresh()
            self._corpus.require_fence(self._fence)  # a later job has removed this job's files

    def write(self, encoder: Encoder, progress: Progress, segment_tokens: int = SEGMENT_TOKENS) -> None:
        """Write the documents into new segments, encoding passages that have no vector yet."""
        writer: SegmentWriter | None = None
        documents = with_vectors(self._sources, encoder, progress)
        for done, (document, vectors) in enumerate(documents, 1):
            if writer is None:
                writer = self._new_segment()
            head = document.head
            self._written.append(
                _WrittenDocument(writer.folder.name, writer.documents, head.id_digest, head.version)
            )
            writer.add(document, vectors)
            progress.step(done, len(self._sources), "writing documents")
            if writer.tokens >= segment_tokens:
                self._finish(writer, progress)
                writer = None
        if writer is not None:
            self._finish(writer, progress)

    def _new_segment(self) -> SegmentWriter:
        spec = self._corpus.spec
        folder = self._corpus.folder / f"seg-{self._fence:08d}-{len(self._entries):04d}"
        return SegmentWriter(folder, spec.dim, spec.vocabulary)

    def _finish(self, writer: SegmentWriter, progress: Progress) -> None:
        documents, tokens = writer.documents, writer.tokens
        size = writer.finish(progress)
        self._corpus.indexes.prepare(writer.folder)
        # Every process that opens the corpus reads it, so it is opened once before a manifest names it.
        Segment(
            SegmentFiles(writer.folder),
            self._corpus.spec.passage_tokens,
            self._corpus.indexes.open(writer.folder),
        )
        self._entries.append(SegmentEntry(writer.folder.name, documents, tokens, size))

    def publish(self) -> RewriteResult:
        """Publish the new segments in place of the replaced segments and sealed logs, and delete the old files.

        Raises
        ------
        Aborted
            CORPUS_FENCED: a later job has taken over the corpus; nothing was published.
        """
        corpus = self._corpus
        with corpus.writing():
            corpus.require_fence(self._fence)
            old = corpus.manifest
            kept = [
                replace(entry, dead=self._deleted_rows(entry))
                for entry in old.segments
                if entry.name not in self._replaced_segments
            ]
            change = replace(
                old,
                segments=(*kept, *self._new_entries()),
                logs=tuple(number for number in old.logs if number not in self._sealed_logs),
                tombstones=corpus.tombstone_version,
                gone={digest.hex(): version for digest, version in corpus.deleted_versions.items()},
                lost=corpus.lost_records,
            )
            corpus.publish(self._fence, change)
            epoch = corpus.manifest.epoch
            self._remove_replaced()
        tokens = sum(entry.tokens for entry in self._entries)
        return RewriteResult(epoch, len(self._written), tokens, len(self._entries))

    def _new_entries(self) -> list[SegmentEntry]:
        """The new segments; documents deleted or replaced since the rewrite began are marked as deleted in them."""
        deleted = self._corpus.deleted_since(self._since)
        rows: dict[str, list[int]] = {entry.name: [] for entry in self._entries}
        for segment, row, digest, version in self._written:
            if version <= deleted.get(digest, 0):
                rows[segment].append(row)
        return [replace(entry, dead=rows[entry.name]) for entry in self._entries]

    def _deleted_rows(self, entry: SegmentEntry) -> list[int]:
        """Rows that are deleted in a segment now; for a segment that cannot be read, as the manifest has them."""
        for segment in self._corpus.segments:
            if segment.name == entry.name:
                return segment.deleted_rows
        return entry.dead

    def _remove_replaced(self) -> None:
        """Delete the files that no manifest names any more; a process that has them open can still read them."""
        corpus = self._corpus
        for name in self._replaced_segments:
            shutil.rmtree(corpus.folder / name, ignore_errors=True)
            corpus.indexes.drop(name)
        for number in self._sealed_logs:
            for name in (log_name(number), tomb_name(number)):
                (corpus.folder / name).unlink(missing_ok=True)
                (corpus.folder / name).with_suffix(".acked").unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Delete files of crashed jobs. Safe once the corpus is taken over: a job still writing them cannot publish."""
        corpus = self._corpus
        with corpus.writing():
            manifest = corpus.manifest
            kept = {entry.name for entry in manifest.segments}
            for folder in corpus.folder.glob("seg-*"):
                if folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)
            for path in [*corpus.folder.glob("WAL-*"), *corpus.folder.glob("TOMB-*")]:
                if int(path.stem.partition("-")[2]) not in manifest.logs:
                    path.unlink(missing_ok=True)
            for path in corpus.folder.glob("*.partial"):
                path.unlink(missing_ok=True)


def with_vectors(
    sources: Sequence[Source], encoder: Encoder, progress: Progress
) -> Iterator[tuple[Document, np.ndarray]]:
    """Yield documents with the vectors of their passages, float16 [passages, dim]; missing vectors are computed."""
    batch: list[tuple[Document, np.ndarray | None]] = []
    missing, done = 0, 0
    for part, row in sources:
        document = part.document(row)
        vectors = document.vectors if isinstance(part, Memtable) else part.vectors(row)
        batch.append((document, vectors))
        missing += document.passages if vectors is None else 0
        if missing >= _ENCODE_PASSAGES or len(batch) >= _ENCODE_DOCUMENTS:
            yield from _encode(batch, encoder, progress, done, len(sources))
            done += len(batch)
            batch, missing = [], 0
    yield from _encode(batch, encoder, progress, done, len(sources))


def _encode(
    batch: list[tuple[Document, np.ndarray | None]],
    encoder: Encoder,
    progress: Progress,
    done: int,
    total: int,
) -> Iterator[tuple[Document, np.ndarray]]:
    texts = [
        document.embedded_text(passage)
        for document, vectors in batch
        if vectors is None
        for passage in range(document.passages)
    ]
    computed = np.zeros((0, 0), np.float16)
    if texts:

        def tell(encoded: int) -> None:
            progress.step(done, total, f"computing vectors, {encoded} of {len(texts)} passages")

        tell(0)
        computed = encoder.encode(texts, tell).astype(np.float16)  # [texts, dim]
    at = 0
    for document, vectors in batch:
        if vectors is None:
            vectors = computed[at : at + document.passages]
            at += document.passages
        yield document, vectors
