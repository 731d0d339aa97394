"""A corpus on disk as it is read: what other processes have published or logged is taken in before each look.

Every process reads the manifest, maps its segments and replays its logs; before each operation it looks whether
either has grown. Changes are made by ``corpus.Corpus``.
"""

import threading
import time
from collections import deque
from pathlib import Path

import numpy as np

from palimpsest.errors import DataLoss, NotFound, Reason
from services.datastore.files import damaged
from services.datastore.index.indexes import FaissIndexes, Indexes
from services.datastore.store.documents import Document, id_digest
from services.datastore.store.log_view import Killed, Logged
from services.datastore.store.manifest import CorpusSpec, Manifest, stamp
from services.datastore.store.memtable import Memtable
from services.datastore.store.results import Found, Gone, Part, View
from services.datastore.store.segment import Segment, SegmentFiles
from services.datastore.store.wal import Kind, Record, read_tombstone, read_vectors

_EVENTS = 4096


class CorpusReader:
    """An open corpus, as it is read. May be used from any thread, and by several processes at once.

    Parameters
    ----------
    folder
        Holds a spec and a manifest; see ``Corpus.create``.
    indexes
        Where passage vectors are searched; by default FAISS, in the folder.

    Raises
    ------
    NotFound
        CORPUS_NOT_FOUND.
    DataLoss
        CORPUS_DAMAGED: its spec or manifest is damaged. A damaged segment is only left out.
    """

    def __init__(self, folder: Path, indexes: Indexes | None = None) -> None:
        self.folder = folder
        self.indexes = indexes or FaissIndexes()
        self.spec = CorpusSpec.read(folder)
        self.lock = threading.RLock()
        self.gone: deque[Gone] = deque(maxlen=_EVENTS)
        """The last deletions this process has seen, oldest first."""
        self._files: dict[str, SegmentFiles | DataLoss] = {}
        self._stamp: tuple[int, int] | None = None
        self._suspect = False
        self._logs: list[Logged] = []
        self._segments: list[Segment] = []
        self._tombstones = 0
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes have published or logged since the last look."""
        with self.lock:
            for _ in range(50):
                try:
                    if stamp(self.folder) != self._stamp:
                        self._open()
                    for logged in self._logs:
                        self._replay(logged)
                    return
                except FileNotFoundError:
                    self._stamp = None  # a log or segment was replaced meanwhile: read the manifest again
                    time.sleep(0.01)
            raise damaged(self.folder / "CURRENT", "it names files that are not there")

    def _open(self) -> None:
        seen = stamp(self.folder)
        manifest = Manifest.read(self.folder)
        segments, quarantined = [], []
        for entry in manifest.segments:
            files = self._segment_files(entry.name)
            if isinstance(files, DataLoss):
                quarantined.append(entry.name)
            else:
                segments.append(
                    Segment(files, self.spec.passage_tokens, self.indexes.open(files.folder), entry.dead)
                )
        logs = self._logs_of(manifest)
        kept = {entry.name for entry in manifest.segments}
        self._files = {name: files for name, files in self._files.items() if name in kept}
        if self._stamp is not None and manifest.tombstones > self._tombstones:
            # Deleted and already taken out of the logs: which documents is not told any more.
            self.gone.append(Gone(manifest.tombstones, "", 0))
        self.manifest, self._logs, self._segments = manifest, logs, segments
        self.epoch = max(manifest.epoch, *(logged.epoch for logged in logs))
        self._tombstones = max(manifest.tombstones, self._tombstones)
        self._gone = {bytes.fromhex(k): v for k, v in manifest.gone.items()}
        self._quarantined, self._lost_before = tuple(quarantined), manifest.lost
        self._stamp = seen
        # Logs that go on know what they have ended; the segments, opened anew, do not.
        for logged in logs:
            for killed in logged.killed:
                self._end(killed)

    def _logs_of(self, manifest: Manifest) -> list[Logged]:
        """The logs of a manifest, those that are open already as they are."""
        held = {logged.number: logged for logged in self._logs if not self._suspect}
        logs: list[Logged] = []
        try:
            for number in manifest.logs:
                logs.append(held.get(number) or Logged(self.folder, number, self.spec.dim))
        except FileNotFoundError:
            for logged in logs:
                if logged not in self._logs:
                    logged.close()
            raise
        for logged in self._logs:
            if logged not in logs:
                logged.close()
        self._suspect = False
        return logs

    def _segment_files(self, name: str) -> SegmentFiles | DataLoss:
        if name not in self._files:
            try:
                self._files[name] = SegmentFiles(self.folder / name)
            except DataLoss as error:
                if not (self.folder / name).exists():
                    raise FileNotFoundError(name) from None
                self._files[name] = error
        return self._files[name]

    def _replay(self, logged: Logged) -> None:
        for record in logged.read_on():
            self._apply(record, logged)

    def _apply(self, record: Record, logged: Logged) -> None:
        self.epoch = logged.epoch = max(self.epoch, record.epoch)
        if record.kind is Kind.DELETE:
            digest, version = read_tombstone(record)
            killed = Killed(record.epoch, digest, version, for_good=True)
            logged.killed.append(killed)
            self._end(killed)
            return
        if record.kind is Kind.VECTORS:
            self._embed(*read_vectors(record))
            return
        document = Document.from_bytes(record.payload)
        digest, version = document.head.id_digest, document.head.version
        if version > 1:
            killed = Killed(record.epoch, digest, version - 1, for_good=False)
            logged.killed.append(killed)
            self._end(killed)
        row = logged.memtable.add(document)
        if version <= self._gone.get(digest, 0):
            logged.memtable.kill(row)  # its deletion was read before it, from the second copy

    def _embed(self, digest: bytes, version: int, vectors: np.ndarray) -> None:
        for logged in self._logs:
            for row, head in logged.memtable.find(digest):
                if head.version == version and logged.memtable.docs[row].passages == len(vectors):
                    logged.memtable.embed(row, vectors)

    def _end(self, killed: Killed) -> None:
        if killed.for_good:
            self._gone[killed.digest] = max(killed.version, self._gone.get(killed.digest, 0))
        for part in self._parts():
            for row, head in part.find(killed.digest):
                if head.version <= killed.version and part.kill(row) and killed.epoch > self._tombstones:
                    self._tombstones = killed.epoch
                    self.gone.append(Gone(killed.epoch, head.document, head.version))

    def _parts(self) -> tuple[Part, ...]:
        return (*self._segments, *(logged.memtable for logged in self._logs))

    def view(self) -> View:
        """The corpus as it is now, in every process."""
        with self.lock:
            self.refresh()
            return View(self.epoch, self._tombstones, self._parts(), self._quarantined, self._lost)

    @property
    def tombstones(self) -> int:
        """Epoch of the last deletion that this process has seen."""
        return self._tombstones

    @property
    def _lost(self) -> int:
        return self._lost_before + sum(logged.damaged for logged in self._logs)

    @property
    def memory_tokens(self) -> int:
        """Tokens that are in no segment yet."""
        return sum(logged.memtable.tokens for logged in self._logs)

    def find(self, document: str, version: int = 0) -> Found:
        """Look a live document up; version 0 for whichever it has.

        Raises
        ------
        NotFound
            DOCUMENT_NOT_FOUND.
        DataLoss
            CORPUS_DAMAGED: it is not in what can be read, and something cannot.
        """
        with self.lock:
            self.refresh()
            found = self._live(id_digest(document))
            if found is not None and version in (0, found.head.version):
                return found
            lost = self._lost
            if found is None and (self._quarantined or lost):
                raise DataLoss(
                    Reason.CORPUS_DAMAGED,
                    f"{document!r} is not in the sound part of {self.spec.corpus}; {len(self._quarantined)} segments "
                    f"and {lost} log records are damaged. Add the document again, or restore the corpus.",
                    metadata={"document": document, "segments": len(self._quarantined), "records": lost},
                )
        which = f"version {version} of {document!r}" if version else repr(document)
        raise NotFound(
            Reason.DOCUMENT_NOT_FOUND,
            f"There is no {which} in {self.spec.corpus} (any more).",
            metadata={"document": document, "version": version},
        )

    def _live(self, digest: bytes) -> Found | None:
        for part in reversed(self._parts()):
            for row, _ in part.find(digest):
                if part.liveness.documents[row]:
                    return Found(part, row)
        return None

    def documents(self) -> list[Found]:
        """Every live document, in no order that means anything."""
        with self.lock:
            self.refresh()
            return [Found(part, row) for part in self._parts() for row in part.live_documents()]

    def without_vectors(self, passages: int, longest: int) -> list[Document]:
        """Some documents outside segments that have no vectors: of about so many passages, and none longer."""
        with self.lock:
            self.refresh()
            for logged in self._logs:
                rows = logged.memtable.without_vectors(passages, longest)
                if rows:
                    return [logged.memtable.docs[row] for row in rows]
        return []

    def ended_since(self, epoch: int) -> dict[bytes, int]:
        """Last versions of documents that were deleted or replaced after an epoch, by the digest of their id."""
        ended: dict[bytes, int] = {}
        with self.lock:
            for killed in (k for logged in self._logs for k in logged.killed if k.epoch > epoch):
                ended[killed.digest] = max(killed.version, ended.get(killed.digest, 0))
        return ended

    def frozen(self) -> list[tuple[int, Memtable]]:
        """The logs that nothing is written to any more: number and documents. Only after ``take_over``."""
        with self.lock:
            return [(logged.number, logged.memtable) for logged in self._logs[:-1]]

    @property
    def segments(self) -> list[Segment]:
        """The sealed parts that can be read."""
        return list(self._segments)

    def state(self) -> tuple[dict[bytes, int], int]:
        """What a manifest must carry on of the logs it drops: last versions of what is gone, and records lost."""
        return dict(self._gone), self._lost

    def close(self) -> None:
        """Close the logs."""
        with self.lock:
            for logged in self._logs:
                logged.close()
            self._logs = []
