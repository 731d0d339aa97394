"""What a corpus returns: live documents, added and deleted versions, and a view of all its parts."""

from dataclasses import dataclass
from typing import NamedTuple

from services.datastore.store.documents import Document, DocumentHead
from services.datastore.store.memtable import Memtable
from services.datastore.store.segment import Segment

Part = Segment | Memtable
"""A part of a corpus: a sealed segment, or the documents of one log in memory."""


class LiveDocument(NamedTuple):
    """A live document: the part that holds it, and its row there."""

    part: Part
    row: int

    @property
    def head(self) -> DocumentHead:
        """Its id, version, title and metadata."""
        return self.part.head(self.row)

    @property
    def document(self) -> Document:
        """Its bytes and tokens."""
        return self.part.document(self.row)


class Added(NamedTuple):
    """The outcome of adding a document: its version, the epoch from which it is found, and whether anything changed."""

    version: int
    epoch: int
    changed: bool


class Deleted(NamedTuple):
    """A version of a document that was deleted, and the epoch of its tombstone; document "" means any document."""

    tombstone_version: int
    document: str
    version: int


@dataclass(frozen=True)
class CorpusView:
    """The parts of a corpus at one epoch. Later deletions still take effect: the parts know which rows are live."""

    epoch: int
    tombstone_version: int
    parts: tuple[Part, ...]
    quarantined: tuple[str, ...]
    lost: int
