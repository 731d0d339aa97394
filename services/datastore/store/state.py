"""The state of a corpus as one process has replayed it from disk: manifest, segments, logs and deletions.

A process reads the manifest, maps the segments it names and replays its logs. Before each operation it checks whether
a manifest was published or a log has grown since, and reads on from there.
"""

import time
from collections import deque
from pathlib import Path

import numpy as np

from palimpsest.errors import DataLoss
from services.datastore.files import damaged
from services.datastore.index.indexes import Indexes
from services.datastore.store.documents import Document
from services.datastore.store.log import LogView, Tombstone
from services.datastore.store.manifest import CorpusSpec, Manifest, stamp
from services.datastore.store.results import Deleted, LiveDocument, Part
from services.datastore.store.segment import Segment, SegmentFiles
from services.datastore.store.wal import Kind, Record, read_tombstone, read_vectors

_RECENT = 4096
"""Deletions kept for watchers."""
_ATTEMPTS, _RETRY_SECONDS = 50, 0.01


class CorpusState:
    """The replayed state of one corpus. The caller of every method holds the corpus's lock.

    Parameters
    ----------
    folder
        The corpus's folder.
    spec
        The corpus's spec.
    indexes
        Where passage vectors are searched.

    Attributes
    ----------
    manifest
        The manifest last read.
    epoch
        Epoch of the last change replayed.
    segments
        The segments that can be read.
    logs
        The manifest's logs, in order; the last one is appended to.
    tombstone_version
        Epoch of the last deletion.
    deletions
        The last deletions that this process has seen, oldest first.
    deleted_versions
        Last deleted version of each document, by the digest of its id.
    """

    def __init__(self, folder: Path, spec: CorpusSpec, indexes: Indexes) -> None:
        self._folder, self._spec, self._indexes = folder, spec, indexes
        self.manifest = Manifest()
        self.epoch = self.tombstone_version = 0
        self.segments: list[Segment] = []
        self.logs: list[LogView] = []
        self.deletions: deque[Deleted] = deque(maxlen=_RECENT)
        self.deleted_versions: dict[bytes, int] = {}
        self._files: dict[str, SegmentFiles | DataLoss] = {}
        self._stamp: tuple[int, int] | None = None
        self._logs_stale = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, oldest first."""
        return (*self.segments, *(log.memtable for log in self.logs))

    @property
    def damage(self) -> dict[str, DataLoss]:
        """The segments that cannot be read, by name, and why."""
        files = {entry.name: self._files.get(entry.name) for entry in self.manifest.segments}
        return {name: error for name, error in files.items() if isinstance(error, DataLoss)}

    @property
    def lost_records(self) -> int:
        """Acknowledged changes lost to damage of the logs."""
        return self.manifest.lost + sum(log.damaged for log in self.logs)

    def live(self, digest: bytes) -> LiveDocument | None:
        """The live version of a document, by the digest of its id."""
        for part in reversed(self.parts):
            for row, _ in part.find(digest):
                if part.liveness.documents[row]:
                    return LiveDocument(part, row)
        return None

    # reading

    def refresh(self) -> None:
        """Replay what other processes have published or logged since the last call.

        Raises
        ------
        NotFound
            CORPUS_NOT_FOUND.
        DataLoss
            CORPUS_DAMAGED: the manifest is damaged, or names files that do not exist.
        """
        for _ in range(_ATTEMPTS):
            try:
                if stamp(self._folder) != self._stamp:
                    self._read_manifest()
                for log in self.logs:
                    self._replay(log)
                return
            except FileNotFoundError:
                self._stamp = None  # a log or segment was replaced meanwhile: read the manifest again
                time.sleep(_RETRY_SECONDS)
        raise damaged(self._folder / "CURRENT", "it names files that do not exist")

    def reload(self) -> None:
        """Read the manifest again, and replay its logs: after this process has published one."""
        self._read_manifest()
        for log in self.logs:
            self._replay(log)

    def distrust(self) -> None:
        """Read everything again next time: an append failed, and only the files know how much of it was written."""
        self._stamp, self._logs_stale = None, True

    def close(self) -> None:
        """Close the logs."""
        for log in self.logs:
            log.close()
        self.logs = []

    def _read_manifest(self) -> None:
        seen = stamp(self._folder)
        manifest = Manifest.read(self._folder)
        segments = []
        for entry in manifest.segments:
            files = self._segment_files(entry.name)
            if not isinstance(files, DataLoss):
                index = self._indexes.open(files.folder)
                segments.append(Segment(files, self._spec.passage_tokens, index, entry.dead))
        logs = self._open_logs(manifest)
        named = {entry.name for entry in manifest.segments}
        self._files = {name: files for name, files in self._files.items() if name in named}
        if self._stamp is not None and manifest.tombstones > self.tombstone_version:
            # The records of these deletions were sealed before this process read them: any document may be deleted.
            self.deletions.append(Deleted(manifest.tombstones, "", 0))
        self.manifest, self.logs, self.segments = manifest, logs, segments
        self.epoch = max(manifest.epoch, *(log.epoch for log in logs))
        self.tombstone_version = max(manifest.tombstones, self.tombstone_version)
        self.deleted_versions = {bytes.fromhex(k): v for k, v in manifest.gone.items()}
        self._stamp = seen
        # The segments were opened anew and do not know the deletions of logs that stay open.
        for log in logs:
            for tombstone in log.tombstones:
                self._delete(tombstone)

    def _open_logs(self, manifest: Manifest) -> list[LogView]:
        """The logs of a manifest; logs that are open already are kept."""
        known = {log.number: log for log in self.logs if not self._logs_stale}
        logs: list[LogView] = []
        try:
            for number in manifest.logs:
                logs.append(known.get(number) or LogView(self._folder, number, self._spec.dim))
        except FileNotFoundError:
            for log in logs:
                if log not in self.logs:
                    log.close()
            raise
        for log in self.logs:
            if log not in logs:
                log.close()
        self._logs_stale = False
        return logs

    def _segment_files(self, name: str) -> SegmentFiles | DataLoss:
        if name not in self._files:
            try:
                self._files[name] = SegmentFiles(self._folder / name)
            except DataLoss as error:
                if not (self._folder / name).exists():
                    raise FileNotFoundError(name) from None
                self._files[name] = error
        return self._files[name]

    # replaying

    def _replay(self, log: LogView) -> None:
        for record in log.read_on():
            self.apply(record, log)

    def apply(self, record: Record, log: LogView) -> None:
        """Apply one record of a log."""
        self.epoch = log.epoch = max(self.epoch, record.epoch)
        if record.kind is Kind.DELETE:
            digest, version = read_tombstone(record)
            self._bury(Tombstone(record.epoch, digest, version, for_good=True), log)
        elif record.kind is Kind.VECTORS:
            self._embed(*read_vectors(record))
        else:
            self._add(record, log)

    def _add(self, record: Record, log: LogView) -> None:
        document = Document.from_bytes(record.payload)
        digest, version = document.head.id_digest, document.head.version
        if version > 1:
            self._bury(Tombstone(record.epoch, digest, version - 1, for_good=False), log)
        row = log.memtable.add(document)
        if version <= self.deleted_versions.get(digest, 0):
            log.memtable.mark_deleted(row)  # its deletion came first, from the second copy

    def _embed(self, digest: bytes, version: int, vectors: np.ndarray) -> None:
        for log in self.logs:
            for row, head in log.memtable.find(digest):
                if head.version == version and log.memtable.docs[row].passages == len(vectors):
                    log.memtable.embed(row, vectors)

    def _bury(self, tombstone: Tombstone, log: LogView) -> None:
        log.tombstones.append(tombstone)
        self._delete(tombstone)

    def _delete(self, tombstone: Tombstone) -> None:
        """Mark the versions that a tombstone ends as deleted in every part."""
        digest = tombstone.digest
        if tombstone.for_good:
            self.deleted_versions[digest] = max(tombstone.version, self.deleted_versions.get(digest, 0))
        for part in self.parts:
            for row, head in part.find(digest):
                ended = head.version <= tombstone.version and part.mark_deleted(row)
                if ended and tombstone.epoch > self.tombstone_version:
                    self.tombstone_version = tombstone.epoch
                    self.deletions.append(Deleted(tombstone.epoch, head.document, head.version))
