"""A corpus on disk: documents added, deleted and found, by any number of processes.

Changes are made under the corpus's file lock, by appending to the last log. Jobs replace segments (see ``builds``)
and are fenced by a number in the manifest. How a corpus is read is in ``reading``.
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
from services.datastore.store.documents import Document, Head, id_digest
from services.datastore.store.log_view import Logged
from services.datastore.store.manifest import CorpusSpec, Manifest
from services.datastore.store.reader import CorpusReader
from services.datastore.store.results import Added, Gone
from services.datastore.store.wal import Kind, Record, tombstone, vectors_record

LOCK = "LOCK"
_LOCK_SECONDS = 20.0


class Corpus(CorpusReader):
    """An open corpus that can be changed; made as its reader is."""

    @classmethod
    def create(cls, folder: Path, spec: CorpusSpec) -> "Corpus":
        """Make an empty corpus; the folder must be there and empty, and is whole once ``CURRENT`` is in it."""
        spec.write(folder)
        Logged.create(folder, 1)
        Manifest().publish(folder)
        return cls(folder)

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

    def calibrate(self, found: Mapping[str, object]) -> None:
        """Keep what a calibration found, by name, for sessions from now on; running jobs carry it on."""
        with self.writing():
            self._publish(replace(self.manifest, calibration=dict(found)))
