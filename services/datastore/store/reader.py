"""Reading a corpus: every call first takes in the changes of other processes. See ``corpus`` for writes."""

import threading
from pathlib import Path

from palimpsest.errors import DataLoss, NotFound, Reason
from services.datastore.index.indexes import FaissIndexes, Indexes
from services.datastore.store.documents import Document, id_digest
from services.datastore.store.manifest import CorpusSpec, Manifest
from services.datastore.store.memtable import Memtable
from services.datastore.store.results import CorpusView, Deleted, LiveDocument
from services.datastore.store.segment import Segment
from services.datastore.store.state import CorpusState


class CorpusReader:
    """An open corpus. May be used from any thread, and by several processes at once.

    A subclass that writes holds ``lock`` and changes the corpus through ``_state``.

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
        CORPUS_DAMAGED: the spec or manifest is damaged. A damaged segment is only left out.
    """

    def __init__(self, folder: Path, indexes: Indexes | None = None) -> None:
        self.folder = folder
        self.indexes = indexes or FaissIndexes()
        self.spec = CorpusSpec.read(folder)
        self.lock = threading.RLock()
        self._state = CorpusState(folder, self.spec, self.indexes)
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes have published or logged since the last call."""
        with self.lock:
            self._state.refresh()

    def close(self) -> None:
        """Close the logs."""
        with self.lock:
            self._state.close()

    # state, as of the last refresh

    @property
    def manifest(self) -> Manifest:
        """The manifest last read."""
        return self._state.manifest

    @property
    def epoch(self) -> int:
        """Epoch of the last change."""
        return self._state.epoch

    @property
    def tombstone_version(self) -> int:
        """Epoch of the last deletion."""
        return self._state.tombstone_version

    @property
    def segments(self) -> list[Segment]:
        """The segments that can be read."""
        return list(self._state.segments)

    @property
    def unsealed_tokens(self) -> int:
        """Tokens in the logs, not yet in a segment."""
        return sum(log.memtable.tokens for log in self._state.logs)

    @property
    def deleted_versions(self) -> dict[bytes, int]:
        """Last deleted version of each document, by the digest of its id."""
        return dict(self._state.deleted_versions)

    @property
    def lost_records(self) -> int:
        """Acknowledged changes lost to damage of the logs."""
        return self._state.lost_records

    # reading

    def view(self) -> CorpusView:
        """All parts of the corpus, at its latest epoch in any process."""
        with self.lock:
            self.refresh()
            state = self._state
            damaged = tuple(state.damage)
            return CorpusView(state.epoch, state.tombstone_version, state.parts, damaged, state.lost_records)

    def find(self, document: str, version: int = 0) -> LiveDocument:
        """Look up a live document; version 0 means whichever version is live.

        Raises
        ------
        NotFound
            DOCUMENT_NOT_FOUND.
        DataLoss
            CORPUS_DAMAGED: the readable part of the corpus does not hold it, and another part is damaged.
        """
        with self.lock:
            self.refresh()
            found = self._state.live(id_digest(document))
            if found is not None and version in (0, found.head.version):
                return found
            segments, records = len(self._state.damage), self.lost_records
        if found is None and (segments or records):
            raise DataLoss(
                Reason.CORPUS_DAMAGED,
                f"{document!r} is not in the readable part of corpora/{self.spec.corpus}, but {segments} segments and "
                f"{records} log records are damaged. Add the document again, or restore the corpus from a backup.",
                metadata={"document": document, "segments": segments, "records": records},
            )
        which = f"version {version} of document {document!r}" if version else f"document {document!r}"
        live = f" Version {found.head.version} is live." if found is not None else ""
        raise NotFound(
            Reason.DOCUMENT_NOT_FOUND,
            f"corpora/{self.spec.corpus} has no {which}; it was never added, or was deleted or replaced.{live}",
            metadata={"document": document, "version": version},
        )

    def documents(self) -> list[LiveDocument]:
        """Every live document, in no particular order."""
        with self.lock:
            self.refresh()
            return [LiveDocument(part, row) for part in self._state.parts for row in part.live_documents()]

    def without_vectors(self, passages: int, longest: int) -> list[Document]:
        """Some unsealed documents without vectors: about so many passages together, and none with more than longest."""
        with self.lock:
            self.refresh()
            for log in self._state.logs:
                rows = log.memtable.without_vectors(passages, longest)
                if rows:
                    return [log.memtable.docs[row] for row in rows]
        return []

    def recent_deletions(self) -> tuple[list[Deleted], bool]:
        """The last deletions that this process has seen, oldest first, and whether earlier ones were dropped."""
        with self.lock:
            deletions = self._state.deletions
            return list(deletions), len(deletions) == deletions.maxlen

    def require_undamaged(self) -> None:
        """Refuse to work on a corpus of which a segment cannot be read.

        Raises
        ------
        DataLoss
            CORPUS_DAMAGED.
        """
        with self.lock:
            self.refresh()
            for error in self._state.damage.values():
                raise error

    # for jobs

    def deleted_since(self, epoch: int) -> dict[bytes, int]:
        """Last versions of documents that were deleted or replaced after an epoch, by the digest of their id."""
        deleted: dict[bytes, int] = {}
        with self.lock:
            for tombstone in (each for log in self._state.logs for each in log.tombstones):
                if tombstone.epoch > epoch:
                    deleted[tombstone.digest] = max(tombstone.version, deleted.get(tombstone.digest, 0))
        return deleted

    def sealable_logs(self) -> list[tuple[int, Memtable]]:
        """The logs that are no longer appended to: number and documents. Only after ``take_over(rotate=True)``."""
        with self.lock:
            return [(log.number, log.memtable) for log in self._state.logs[:-1]]
