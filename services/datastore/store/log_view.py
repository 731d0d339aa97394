"""One log of a corpus as it is read: its records, the second copy of its deletions, and the documents it holds."""

from pathlib import Path
from typing import NamedTuple

from services.datastore.store.manifest import log_name, tomb_name
from services.datastore.store.memtable import Memtable
from services.datastore.store.wal import Log, Record


class Killed(NamedTuple):
    """What a log has ended: versions of a document up to one; for good, or because a later one took its place."""

    epoch: int
    digest: bytes
    version: int
    for_good: bool


class Logged:
    """A log, read as far as it has come.

    Parameters
    ----------
    folder
        Of the corpus.
    number
        Of the log.
    dim
        Of passage vectors.

    Attributes
    ----------
    memtable
        The documents it has added.
    killed
        What it has ended, for segments that are opened later.
    damaged
        Stretches of it that are no records any more.
    epoch
        Of its last record.

    Raises
    ------
    FileNotFoundError
        It is not there (any more).
    """

    def __init__(self, folder: Path, number: int, dim: int) -> None:
        self.number = number
        self._log = Log(folder / log_name(number))
        try:
            self._second = Log(folder / tomb_name(number))
        except FileNotFoundError:
            self._log.close()
            raise
        self.memtable = Memtable(dim)
        self.killed: list[Killed] = []
        self.damaged = 0
        self.epoch = 0

    def read_on(self) -> list[Record]:
        """Return the records that have come since the last time, in order."""
        added, deleted = self._log.read_on(), self._second.read_on()
        self.damaged += len(added.damaged)
        # The second copy says nothing new, unless the first was damaged.
        known = {record.epoch for record in added.records}
        extra = [record for record in deleted.records if record.epoch not in known]
        return sorted([*added.records, *extra], key=lambda r: r.epoch)

    def append(self, records: list[Record], tombs: list[Record]) -> None:
        """Add records, durably, and those that end something to the second copy. Only with the corpus's lock held."""
        if records:
            self._log.append(records)
        if tombs:
            self._second.append(tombs)

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        self._second.close()

    @staticmethod
    def create(folder: Path, number: int) -> None:
        """Make an empty log and its second copy, durably."""
        for name in (log_name, tomb_name):
            Log.create(folder / name(number))
