"""Purging: what was deleted leaves the disk, and a scan of every file proves it."""

import time
from dataclasses import dataclass

from palimpsest.errors import Aborted, Reason
from palimpsest.progress import NullProgress, Progress
from services.datastore.index.encoder import Encoder
from services.datastore.store.builds import SEGMENT_TOKENS, require_whole, rewrite_with_dead
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Head
from services.datastore.store.keystore import KeyStore
from services.datastore.store.memtable import Memtable
from services.datastore.store.segment import Segment
from services.datastore.store.shingles import SIZE, Scanner


@dataclass(frozen=True)
class Receipt:
    """What was purged, and how that was proved.

    Attributes
    ----------
    documents
        Heads of the versions that are gone for good.
    epoch
        From which on the corpus holds nothing of them.
    shingles
        Runs of 32 bytes that were looked for; those that live documents hold too are not among them.
    scanned_bytes
        Of all files of the corpus.
    unproven
        Documents too short to look for.
    key_blocks
        Token keys deleted.
    finished
        Seconds since 1970.
    """

    documents: tuple[Head, ...]
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
) -> Receipt:
    """Rewrite everything that holds a byte of a deleted document; prove that none is left.

    Raises
    ------
    Aborted
        PURGE_INCOMPLETE: something is left, such as a file that was being read; purge again. CORPUS_FENCED.
    DataLoss
        CORPUS_DAMAGED: a segment cannot be read, so what it holds cannot be told.
    """
    progress = progress or NullProgress()
    require_whole(corpus)
    parts = corpus.view().parts
    dead = [
        part.document(row)
        for part in parts
        for row in (
            range(len(part.docs)) if isinstance(part, Memtable) else range(len(part.files.doc_start) - 1)
        )
        if not part.liveness.documents[row]
    ]
    progress.step(0, 0, "reading what was deleted")
    scanner, heads = Scanner(dead), tuple(document.head for document in dead)
    del dead
    built = rewrite_with_dead(corpus, encoder, progress, segment_tokens)
    progress.step(0, 0, "proving")
    live = set()
    for found in corpus.documents():
        document = found.document
        scanner.allow(document)
        live |= {document.digest(n) for n in range(document.passages)}
        progress.check()
    for segment in corpus.segments:
        _allow_seams(scanner, segment)
    blocks = keys.keep_only(live)
    hits, scanned = scanner.scan(corpus.folder)
    if hits:
        raise Aborted(
            Reason.PURGE_INCOMPLETE,
            f"Bytes of deleted documents are still in {hits[0].file} at {hits[0].offset}; purge again.",
            metadata={"file": hits[0].file, "offset": hits[0].offset, "hits": len(hits)},
        )
    return Receipt(heads, built.epoch, scanner.count, scanned, scanner.unproven, blocks, time.time())


def _allow_seams(scanner: Scanner, segment: Segment) -> None:
    """Where a segment's documents, all of them alive, follow each other."""
    files = segment.files
    for texts, starts in ((files.docs, files.doc_start), (files.tokens, files.doc_token)):
        for seam in starts[1:-1].tolist():
            before, after = texts[max(0, seam - SIZE) : seam], texts[seam : seam + SIZE]
            scanner.allow_seam(before.tobytes(), after.tobytes())
