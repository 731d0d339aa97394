"""Purging: the bytes of deleted documents are removed from disk, and a scan of every file proves it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from palimpsest.errors import Aborted, Reason
from palimpsest.progress import NullProgress, Progress
from services.datastore.index.encoder import Encoder
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document, DocumentHead
from services.datastore.store.keystore import KeyStore
from services.datastore.store.rewriting import SEGMENT_TOKENS, Rewrite
from services.datastore.store.segment import Segment
from services.datastore.store.shingles import SIZE, Remnant, Scanner


@dataclass(frozen=True)
class PurgeReceipt:
    """What a purge removed, and how the removal was proved.

    Attributes
    ----------
    documents
        Heads of the versions that were removed for good.
    epoch
        First epoch at which the corpus holds none of their bytes.
    shingles
        Number of 32-byte shingles searched for; shingles that live documents share are excluded.
    scanned_bytes
        Total size of the files scanned.
    unproven
        Documents too short to search for.
    key_blocks
        Blocks of token keys deleted.
    finished
        Seconds since 1970.
    """

    documents: tuple[DocumentHead, ...]
    epoch: int
    shingles: int
    scanned_bytes: int
    unproven: int
    key_blocks: int
    finished: float


def purge(
    corpus: Corpus,
    encoder: Encoder,
    keys: KeyStore,
    progress: Progress | None = None,
    *,
    segment_tokens: int = SEGMENT_TOKENS,
) -> PurgeReceipt:
    """Remove every byte of deleted documents from the corpus's files, and prove that none is left.

    Raises
    ------
    Aborted
        PURGE_INCOMPLETE: a file still holds deleted bytes, for example because a process was reading it; purge again.
        CORPUS_FENCED: a later job has taken over the corpus.
    DataLoss
        CORPUS_DAMAGED: a segment cannot be read, so its contents are unknown.
    """
    progress = progress or NullProgress()
    corpus.require_undamaged()

    # Collect: hash every shingle of the deleted documents.
    progress.step(0, 0, "reading deleted documents")
    deleted = _deleted_documents(corpus)
    scanner, heads = Scanner(deleted), tuple(document.head for document in deleted)
    del deleted

    # Rewrite every segment that holds a deleted document, and the logs. Publish: the old files are deleted.
    with Rewrite(corpus, _with_deletions, seal=True) as rewrite:
        rewrite.write(encoder, progress, segment_tokens)
        rewritten = rewrite.publish()

    # Scan every file for the shingles that no live document shares; keys of deleted passages go first.
    progress.step(0, 0, "scanning")
    live_passages = set()
    for document in _live_documents(corpus, progress):
        scanner.allow(document)
        live_passages |= {document.digest(passage) for passage in range(document.passages)}
    for segment in corpus.segments:
        _allow_seams(scanner, segment)
    key_blocks = keys.keep_only(live_passages)
    remnants, scanned_bytes = scanner.scan(corpus.folder)
    if remnants:
        raise _incomplete(remnants)

    return PurgeReceipt(
        documents=heads,
        epoch=rewritten.epoch,
        shingles=scanner.count,
        scanned_bytes=scanned_bytes,
        unproven=scanner.unproven,
        key_blocks=key_blocks,
        finished=time.time(),
    )


def _deleted_documents(corpus: Corpus) -> list[Document]:
    return [part.document(row) for part in corpus.view().parts for row in part.deleted_rows]


def _live_documents(corpus: Corpus, progress: Progress) -> Iterator[Document]:
    for found in corpus.documents():
        yield found.document
        progress.check()


def _with_deletions(segments: Sequence[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.deleted_rows]


def _allow_seams(scanner: Scanner, segment: Segment) -> None:
    """Allow the shingles that two neighbouring live documents form across their boundary in a file."""
    files = segment.files
    for texts, starts in ((files.docs, files.doc_start), (files.tokens, files.doc_token)):
        for seam in starts[1:-1].tolist():
            before, after = texts[max(0, seam - SIZE) : seam], texts[seam : seam + SIZE]
            scanner.allow_seam(before.tobytes(), after.tobytes())


def _incomplete(remnants: list[Remnant]) -> Aborted:
    first = remnants[0]
    return Aborted(
        Reason.PURGE_INCOMPLETE,
        f"Bytes of deleted documents remain in {first.file} at offset {first.offset} ({len(remnants)} found). "
        "Run Purge again.",
        metadata={"file": first.file, "offset": first.offset, "hits": len(remnants)},
    )
