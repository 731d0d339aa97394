"""Jobs on a corpus: seal what the logs hold, merge segments, leave out what was deleted; publish it as one change.

Every job takes the corpus over first, so that one that was thought dead can publish nothing when it wakes. New
segments are written without the lock; what was deleted meanwhile is dead in them from their first moment.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from palimpsest.errors import DataLoss
from palimpsest.progress import NullProgress, Progress
from services.datastore.index.encoder import Encoder
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document
from services.datastore.store.manifest import Manifest, SegmentEntry, log_name, tomb_name
from services.datastore.store.memtable import Memtable
from services.datastore.store.results import Part
from services.datastore.store.segment import Segment
from services.datastore.store.segment_writer import SegmentWriter

SEGMENT_TOKENS = 16 << 20
"""Tokens at which a segment is full; the next document begins another."""
SMALL_SHARE, DEAD_SHARE = 8, 0.2
"""Compaction takes segments below an eighth of a full one, and those a fifth of which is dead."""
_ENCODED_AT_ONCE = 512

Source = tuple[Part, int]


@dataclass(frozen=True)
class Built:
    """What a job has done: the epoch it published, and documents and tokens written."""

    epoch: int
    documents: int
    tokens: int
    segments: int


class _Row(NamedTuple):
    """Where a written document comes from, to see whether it is still alive at the end."""

    segment: str
    row: int
    digest: bytes
    version: int


def build(
    corpus: Corpus,
    encoder: Encoder,
    progress: Progress | None = None,
    *,
    segment_tokens: int = SEGMENT_TOKENS,
) -> Built:
    """Seal everything that is in the logs into segments; passages without vectors get theirs.

    Raises
    ------
    Aborted
        CORPUS_FENCED: a later job has taken the corpus over; nothing was published.
    """
    return _rewrite(corpus, encoder, progress or NullProgress(), lambda _: [], True, segment_tokens)


def compact(
    corpus: Corpus,
    encoder: Encoder,
    progress: Progress | None = None,
    *,
    segment_tokens: int = SEGMENT_TOKENS,
) -> Built:
    """Merge small segments, and write those with many deleted documents again without them.

    Raises
    ------
    Aborted
        CORPUS_FENCED.
    """

    def worth_it(segments: Sequence[Segment]) -> list[Segment]:
        small = [s for s in segments if s.tokens - s.dead_tokens < segment_tokens // SMALL_SHARE]
        holed = [s for s in segments if s.dead_tokens > DEAD_SHARE * max(1, s.tokens)]
        return list({s.name: s for s in [*(small if len(small) > 1 else []), *holed]}.values())

    return _rewrite(corpus, encoder, progress or NullProgress(), worth_it, False, segment_tokens)


def rewrite_with_dead(corpus: Corpus, encoder: Encoder, progress: Progress, segment_tokens: int) -> Built:
    """Write every segment that holds a deleted document again without it, and seal the logs: for ``purge``."""
    return _rewrite(corpus, encoder, progress, lambda s: [x for x in s if x.dead], True, segment_tokens)


def _rewrite(
    corpus: Corpus,
    encoder: Encoder,
    progress: Progress,
    choose: Callable[[Sequence[Segment]], list[Segment]],
    seal: bool,
    segment_tokens: int,
) -> Built:
    fence = corpus.take_over(rotate=seal).fence
    _clear_leftovers(corpus)
    old = choose(corpus.segments)
    frozen = corpus.frozen() if seal else []
    with corpus.lock:
        since = corpus.epoch
        sources: list[Source] = [(part, row) for part in old for row in part.live_documents()]
        sources += [(memtable, row) for _, memtable in frozen for row in memtable.live_documents()]
    entries: list[SegmentEntry] = []
    try:
        rows = _write(corpus, encoder, progress, sources, fence, segment_tokens, entries)
        return _publish(corpus, fence, since, {s.name for s in old}, [n for n, _ in frozen], entries, rows)
    except BaseException as error:
        kept = {s.name for s in corpus.manifest.segments}
        for folder in corpus.folder.glob(f"seg-{fence:08d}-*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, FileNotFoundError):
            corpus.refresh()
            corpus.require(fence)  # a later job has cleared this one's files away
        raise


def _write(
    corpus: Corpus,
    encoder: Encoder,
    progress: Progress,
    sources: list[Source],
    fence: int,
    segment_tokens: int,
    entries: list[SegmentEntry],
) -> list[_Row]:
    """Write segments, appending their entries; returns where each document came from."""
    rows: list[_Row] = []
    writer: SegmentWriter | None = None

    def finish(full: SegmentWriter) -> None:
        documents, tokens = full.documents, full.tokens
        size = full.finish(progress)
        corpus.indexes.prepare(full.folder)
        entries.append(SegmentEntry(full.folder.name, documents, tokens, size))

    for done, (document, vectors) in enumerate(_encoded(sources, encoder, progress)):
        if writer is None:
            name = f"seg-{fence:08d}-{len(entries):04d}"
            writer = SegmentWriter(corpus.folder / name, corpus.spec.dim, corpus.spec.vocabulary)
        head = document.head
        rows.append(_Row(writer.folder.name, writer.documents, head.id_digest, head.version))
        writer.add(document, vectors)
        progress.step(done + 1, len(sources), "writing documents")
        if writer.tokens >= segment_tokens:
            finish(writer)
            writer = None
    if writer is not None:
        finish(writer)
    return rows


def _encoded(
    sources: list[Source], encoder: Encoder, progress: Progress
) -> Iterator[tuple[Document, np.ndarray]]:
    """Documents with their passages' vectors, computed in batches where they are not there yet."""
    waiting: list[tuple[Document, Source]] = []
    pending = 0
    for part, row in sources:
        document = part.document(row)
        waiting.append((document, (part, row)))
        pending += document.passages if _vectors(part, row, document) is None else 0
        if pending >= _ENCODED_AT_ONCE or len(waiting) >= 4096:
            yield from _encode(waiting, encoder, progress)
            waiting, pending = [], 0
    yield from _encode(waiting, encoder, progress)


def _vectors(part: Part, row: int, document: Document) -> np.ndarray | None:
    return document.vectors if isinstance(part, Memtable) else part.vectors(row)


def _encode(
    waiting: list[tuple[Document, Source]], encoder: Encoder, progress: Progress
) -> Iterator[tuple[Document, np.ndarray]]:
    texts = [
        document.embedded_text(n)
        for document, (part, row) in waiting
        if _vectors(part, row, document) is None
        for n in range(document.passages)
    ]
    fresh = (
        encoder.encode(texts, lambda _: progress.check()).astype(np.float16) if texts else np.zeros((0, 0))
    )
    at = 0
    for document, (part, row) in waiting:
        vectors = _vectors(part, row, document)
        if vectors is None:
            vectors = fresh[at : at + document.passages]
            at += document.passages
        yield document, vectors


def _publish(
    corpus: Corpus,
    fence: int,
    since: int,
    replaced: set[str],
    sealed: list[int],
    entries: list[SegmentEntry],
    rows: list[_Row],
) -> Built:
    """Make the new segments count instead of those replaced and the logs sealed; what ended since is dead in them."""
    with corpus.writing():
        corpus.require(fence)
        dead: dict[str, list[int]] = {entry.name: [] for entry in entries}
        ended = corpus.ended_since(since)
        for name, row, digest, version in rows:
            if digest in ended and version <= ended[digest]:
                dead[name].append(row)
        kept = [
            replace(entry, dead=_dead(corpus, entry))
            for entry in corpus.manifest.segments
            if entry.name not in replaced
        ]
        gone, lost = corpus.state()
        logs = tuple(n for n in corpus.manifest.logs if n not in sealed)
        change = replace(
            corpus.manifest,
            segments=(*kept, *(replace(entry, dead=dead[entry.name]) for entry in entries)),
            logs=logs,
            tombstones=corpus.tombstones,
            gone={digest.hex(): version for digest, version in gone.items()},
            lost=lost,
        )
        corpus.publish(fence, change)
        epoch = corpus.manifest.epoch
        _remove(corpus, replaced, sealed)
    return Built(epoch, len(rows), sum(entry.tokens for entry in entries), len(entries))


def _dead(corpus: Corpus, entry: SegmentEntry) -> list[int]:
    """Rows of a segment that are dead now; of one that cannot be read, those that were."""
    for segment in corpus.segments:
        if segment.name == entry.name:
            return segment.dead
    return entry.dead


def _remove(corpus: Corpus, segments: set[str], logs: list[int]) -> None:
    """Delete files that no manifest names any more; who has them open may go on reading."""
    for name in segments:
        shutil.rmtree(corpus.folder / name, ignore_errors=True)
        corpus.indexes.drop(name)
    for number in logs:
        for name in (log_name(number), tomb_name(number)):
            (corpus.folder / name).unlink(missing_ok=True)
            (corpus.folder / name).with_suffix(".acked").unlink(missing_ok=True)


def _clear_leftovers(corpus: Corpus) -> None:
    """Delete what crashed jobs have left. Only after ``take_over``: what they still write is theirs no more."""
    with corpus.writing():
        manifest: Manifest = corpus.manifest
        kept = {entry.name for entry in manifest.segments}
        for folder in corpus.folder.glob("seg-*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        for path in [*corpus.folder.glob("WAL-*"), *corpus.folder.glob("TOMB-*")]:
            number = int(path.stem.partition("-")[2])
            if number not in manifest.logs:
                path.unlink(missing_ok=True)
        for path in corpus.folder.glob("*.partial"):
            path.unlink(missing_ok=True)


def require_whole(corpus: Corpus) -> None:
    """Refuse to go on where something cannot be read.

    Raises
    ------
    DataLoss
        CORPUS_DAMAGED.
    """
    for name in corpus.view().quarantined:
        problem = corpus._files[name]
        if isinstance(problem, DataLoss):
            raise problem
