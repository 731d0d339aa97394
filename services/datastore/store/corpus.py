"""A corpus on disk that can be changed: documents are added and deleted by any number of processes.

Changes are appended to the last log under the corpus's file lock. Jobs replace segments (see ``rewriting``) and are
fenced by a number in the manifest.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from palimpsest.errors import Aborted, Reason, Unavailable
from services.datastore.store.documents import Document, DocumentHead, id_digest
from services.datastore.store.log import LogView
from services.datastore.store.manifest import CorpusSpec, Manifest
from services.datastore.store.reader import CorpusReader
from services.datastore.store.results import Added, Deleted
from services.datastore.store.wal import Kind, Record, tombstone_record, vectors_record

LOCK = "LOCK"
_LOCK_SECONDS = 20.0


class Corpus(CorpusReader):
    """An open corpus that can be changed; open it as a ``CorpusReader``."""

    @classmethod
    def create(cls, folder: Path, spec: CorpusSpec) -> "Corpus":
        """Create an empty corpus in an empty folder; it is complete once ``CURRENT`` is in the folder."""
        spec.write(folder)
        LogView.create(folder, 1)
        Manifest().publish(folder)
        return cls(folder)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the corpus's file lock with everything replayed: one writer at a time, across processes.

        Raises
        ------
        Unavailable
            CORPUS_BUSY: another process has held the lock for too long.
        """
        with self.lock:
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._acquire(handle)
                self.refresh()
                yield
            finally:
                os.close(handle)

    def _acquire(self, handle: int) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        Reason.CORPUS_BUSY,
                        f"Another process has been writing to corpora/{self.spec.corpus} for more than "
                        f"{_LOCK_SECONDS:.0f} s. Retry.",
                        retry_after=1.0,
                    ) from None
                time.sleep(0.002)

    # documents

    def add(self, documents: Sequence[Document]) -> list[Added]:
        """Add documents durably, in one write, and assign their versions.

        A document whose bytes, title, uri and metadata equal those of the live version changes nothing.
        """
        with self.writing():
            records, deletions, outcomes = [], [], []
            latest: dict[bytes, DocumentHead | None] = {}
            epoch = self.epoch
            for document in documents:
                digest = document.head.id_digest
                if digest not in latest:
                    found = self._state.live(digest)
                    latest[digest] = found.head if found else None
                current = latest[digest]
                if current is not None and document.head.same_as(current):
                    outcomes.append(Added(current.version, epoch, changed=False))
                    continue
                epoch += 1
                last = current.version if current is not None else self._state.deleted_versions.get(digest, 0)
                head = replace(document.head, version=last + 1)
                records.append(Record(epoch, Kind.ADD, replace(document, head=head).to_bytes()))
                if current is not None:
                    deletions.append(tombstone_record(epoch, digest, current.version))
                latest[digest] = head
                outcomes.append(Added(head.version, epoch, changed=True))
            self._append(records, deletions)
            return outcomes

    def delete(self, documents: Sequence[str]) -> dict[str, Deleted]:
        """Delete documents durably; returns what was deleted, without ids that the corpus does not have."""
        with self.writing():
            records, deleted, epoch = [], {}, self.epoch
            for document in dict.fromkeys(documents):
                digest = id_digest(document)
                found = self._state.live(digest)
                if found is not None:
                    epoch += 1
                    records.append(tombstone_record(epoch, digest, found.head.version))
                    deleted[document] = Deleted(epoch, document, found.head.version)
            self._append(records, records)
            return deleted

    def put_vectors(self, documents: Sequence[Document], vectors: Sequence[np.ndarray]) -> None:
        """Store vectors computed after their documents were added, float16 [passages, dim] each.

        Documents that were sealed meanwhile have vectors already; theirs are dropped.
        """
        with self.writing():
            records = [
                vectors_record(self.epoch + n, document.head.id_digest, document.head.version, each)
                for n, (document, each) in enumerate(zip(documents, vectors, strict=True), 1)
            ]
            self._append(records, [])

    def _append(self, records: list[Record], deletions: list[Record]) -> None:
        log = self._state.logs[-1]
        try:
            log.append(records, deletions)
        except BaseException:
            self._state.distrust()
            raise
        # Applied from memory: the log has them as read, so replaying it would find nothing new.
        for record in records:
            self._state.apply(record, log)

    # jobs

    def take_over(self, *, rotate: bool) -> Manifest:
        """Start a job: earlier jobs can no longer publish. With rotate, start a new log, so the last can be sealed."""
        with self.writing():
            manifest, logs = self.manifest, self.manifest.logs
            if rotate and self._state.logs[-1].memtable.docs:
                logs = (*logs, logs[-1] + 1)
                LogView.create(self.folder, logs[-1])
            self._publish(replace(manifest, fence=manifest.fence + 1, logs=logs))
            return self.manifest

    def publish(self, fence: int, change: Manifest) -> None:
        """Publish a job's manifest, unless a later job has taken over. Only inside ``writing``.

        Raises
        ------
        Aborted
            CORPUS_FENCED: a later job has taken over the corpus.
        """
        self.require_fence(fence)
        self._publish(change)

    def require_fence(self, fence: int) -> None:
        """Raise Aborted (CORPUS_FENCED) if a later job has taken over the corpus."""
        current = self.manifest.fence
        if current != fence:
            raise Aborted(
                Reason.CORPUS_FENCED,
                f"Another job has taken over corpora/{self.spec.corpus} (fence {current}, this job has {fence}). "
                "Nothing was published; start the job again.",
                metadata={"fence": fence, "current": current},
            )

    def calibrate(self, calibration: Mapping[str, object]) -> None:
        """Store a calibration, by parameter name, for new sessions; running jobs carry it over."""
        with self.writing():
            self._publish(replace(self.manifest, calibration=dict(calibration)))

    def _publish(self, change: Manifest) -> None:
        replace(change, epoch=self.epoch + 1).publish(self.folder)
        self._state.reload()
