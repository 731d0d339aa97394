"""One log of a corpus as a process has read it: its records, the second copy of its deletions, and its documents."""

from pathlib import Path
from typing import NamedTuple

from services.datastore.store.manifest import log_name, tomb_name
from services.datastore.store.memtable import Memtable
from services.datastore.store.wal import LogFile, Record


class Tombstone(NamedTuple):
    """The end of all versions of a document up to one: it was deleted for good, or a later version replaced it."""

    epoch: int
    digest: bytes
    version: int
    for_good: bool


class LogView:
    """A log, read up to some offset.

    Parameters
    ----------
    folder
        The corpus's folder.
    number
        The log's number.
    dim
        Dimension of passage vectors.

    Attributes
    ----------
    memtable
        The documents that the log has added.
    tombstones
        The deletions in the log, to be applied to segments that are opened later.
    damaged
        Number of damaged byte ranges.
    epoch
        Epoch of the last record.

    Raises
    ------
    FileNotFoundError
        The log does not exist, or was sealed a moment ago.
    """

    def __init__(self, folder: Path, number: int, dim: int) -> None:
        self.number = number
        self._records = LogFile(folder / log_name(number))
        try:
            self._deletions = LogFile(folder / tomb_name(number))
        except FileNotFoundError:
            self._records.close()
            raise
        self.memtable = Memtable(dim)
        self.tombstones: list[Tombstone] = []
        self.damaged = 0
        self.epoch = 0

    def read_on(self) -> list[Record]:
        """Return the records appended since the last call, in order."""
        records, deletions = self._records.read_on(), self._deletions.read_on()
        self.damaged += len(records.damaged)
        # The second copy repeats the first, unless the first was damaged.
        known = {record.epoch for record in records.records}
        recovered = [record for record in deletions.records if record.epoch not in known]
        return sorted([*records.records, *recovered], key=lambda record: record.epoch)

    def append(self, records: list[Record], deletions: list[Record]) -> None:
        """Append records durably, and the deletions among them to the second copy. The caller holds the file lock.

        Where either finds no room on the disk, neither has anything.
        """
        if deletions:
            self._deletions.reserve(deletions)
        try:
            if records:
                self._records.append(records)
        except BaseException:
            self._deletions.give_back()
            raise
        if deletions:
            self._deletions.append(deletions)

    def close(self) -> None:
        """Close the files."""
        self._records.close()
        self._deletions.close()

    @staticmethod
    def create(folder: Path, number: int) -> None:
        """Create an empty log and its second copy, durably."""
        for name in (log_name, tomb_name):
            LogFile.create(folder / name(number))
