"""A corpus on disk: documents added, deleted and found, by any number of processes.

Every process reads the manifest, maps its segments and replays its logs; before each operation it looks whether
either has grown. Changes are made under the corpus's file lock, by appending to the last log. Jobs replace segments
(see ``builds``) and are fenced by a number in the manifest.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from palimpsest.errors import Aborted, DataLoss, NotFound, Reason, Unavailable
from services.datastore.documents import Document, Head, id_digest
from services.datastore.files import damaged
from services.datastore.indexes import FaissIndexes, Indexes
from services.datastore.logged import Killed, Logged
from services.datastore.manifest import CorpusSpec, Manifest, stamp
from services.datastore.memtable import Memtable
from services.datastore.segment import Segment, SegmentFiles
from services.datastore.views import Added, Found, Gone, Part, View
from services.datastore.wal import Kind, Record, read_tombstone, read_vectors, tombstone, vectors_record

LOCK = "LOCK"
_LOCK_SECONDS = 20.0
_EVENTS = 4096


class Corpus:
    """An open corpus. May be used from any thread, and by several processes at once.

    Parameters
    ----------
    folder
        Holds a spec and a manifest; see ``create``.
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

    @classmethod
    def create(cls, folder: Path, spec: CorpusSpec) -> "Corpus":
        """Make an empty corpus; the folder must be there and empty, and is whole once ``CURRENT`` is in it."""
        spec.write(folder)
        Logged.create(folder, 1)
        Manifest().publish(folder)
        return cls(folder)

    # reading

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

    # writing

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the corpus's lock, with everything read: one writer at a time, in whatever process.

        Raises
        ------
        Unavailable
            CORPUS_BUSY: another process has kept the lock for too long.
        """
        with self.lock:
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._take(handle)
                self.refresh()
                yield
            finally:
                os.close(handle)

    def _take(self, handle: int) -> None:
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Unavailable(
                        Reason.CORPUS_BUSY,
                        f"Another process is writing to {self.spec.corpus}; try again.",
                        retry_after=1.0,
                    ) from None
                time.sleep(0.002)

    def add(self, documents: Sequence[Document]) -> list[Added]:
        """Add documents, durably, in one write; versions are given here.

        The same bytes, title, uri and metadata under an id that has them already change nothing.
        """
        with self.writing():
            records, tombs, answers = [], [], []
            latest: dict[bytes, Head | None] = {}
            epoch = self.epoch
            for document in documents:
                digest = document.head.id_digest
                if digest not in latest:
                    found = self._live(digest)
                    latest[digest] = found.head if found else None
                current = latest[digest]
                if current is not None and document.head.same_as(current):
                    answers.append(Added(current.version, epoch, changed=False))
                    continue
                epoch += 1
                version = 1 + (current.version if current is not None else self._gone.get(digest, 0))
                head = replace(document.head, version=version)
                records.append(Record(epoch, Kind.ADD, replace(document, head=head).to_bytes()))
                if current is not None:
                    tombs.append(tombstone(epoch, digest, current.version))
                latest[digest] = head
                answers.append(Added(version, epoch, changed=True))
            self._log(records, tombs)
            return answers

    def delete(self, documents: Sequence[str]) -> dict[str, Gone]:
        """Delete documents, durably; those that are not there are left out of the answer."""
        with self.writing():
            records, answer, epoch = [], {}, self.epoch
            for document in dict.fromkeys(documents):
                digest = id_digest(document)
                found = self._live(digest)
                if found is not None:
                    epoch += 1
                    records.append(tombstone(epoch, digest, found.head.version))
                    answer[document] = Gone(epoch, document, found.head.version)
            self._log(records, records)
            return answer

    def without_vectors(self, passages: int, longest: int) -> list[Document]:
        """Some documents outside segments that have no vectors: of about so many passages, and none longer."""
        with self.lock:
            self.refresh()
            for logged in self._logs:
                rows = logged.memtable.without_vectors(passages, longest)
                if rows:
                    return [logged.memtable.docs[row] for row in rows]
        return []

    def put_vectors(self, documents: Sequence[Document], vectors: Sequence[np.ndarray]) -> None:
        """Keep vectors that were computed since their documents were added; those sealed meanwhile have theirs."""
        with self.writing():
            records = [
                vectors_record(self.epoch + n, document.head.id_digest, document.head.version, each)
                for n, (document, each) in enumerate(zip(documents, vectors, strict=True), 1)
            ]
            self._log(records, [])

    def _log(self, records: list[Record], tombs: list[Record]) -> None:
        logged = self._logs[-1]
        try:
            logged.append(records, tombs)
        except BaseException:
            self._stamp, self._suspect = None, True  # what is in the files counts, not what was meant to be
            raise
        # Applied from memory: reading the file again would find nothing new.
        for record in records:
            self._apply(record, logged)

    # jobs

    def take_over(self, *, rotate: bool) -> Manifest:
        """Begin a job: every earlier one is shut out, and, with rotate, what the logs hold stands still."""
        with self.writing():
            manifest = self.manifest
            logs = manifest.logs
            if rotate and self._logs[-1].memtable.docs:
                logs = (*logs, logs[-1] + 1)
                Logged.create(self.folder, logs[-1])
            self._publish(replace(manifest, fence=manifest.fence + 1, logs=logs))
            return self.manifest

    def publish(self, fence: int, change: Manifest) -> None:
        """Publish a job's manifest, if the corpus is still this job's. Only inside ``writing``.

        Raises
        ------
        Aborted
            CORPUS_FENCED: a later job has taken the corpus over.
        """
        self.require(fence)
        self._publish(change)

    def require(self, fence: int) -> None:
        """Raise Aborted (CORPUS_FENCED) if a later job has taken the corpus over."""
        if self.manifest.fence != fence:
            raise Aborted(
                Reason.CORPUS_FENCED,
                f"Another job has taken over {self.spec.corpus}; nothing was published. Start this one again.",
                metadata={"fence": fence, "current": self.manifest.fence},
            )

    def _publish(self, change: Manifest) -> None:
        replace(change, epoch=self.epoch + 1).publish(self.folder)
        self._open()
        for logged in self._logs:
            self._replay(logged)

    def ended_since(self, epoch: int) -> dict[bytes, int]:
        """Last versions of documents that were deleted or replaced after an epoch, by the digest of their id."""
        ended: dict[bytes, int] = {}
        with self.lock:
            for killed in (k for logged in self._logs for k in logged.killed if k.epoch > epoch):
                ended[killed.digest] = max(killed.version, ended.get(killed.digest, 0))
        return ended

    def calibrate(self, found: Mapping[str, object]) -> None:
        """Keep what a calibration found, by name, for sessions from now on; running jobs carry it on."""
        with self.writing():
            self._publish(replace(self.manifest, calibration=dict(found)))

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
