"""What a corpus answers with: documents found and added, what is gone, and how it stands at a moment."""

from dataclasses import dataclass
from typing import NamedTuple

from services.datastore.store.documents import Document, Head
from services.datastore.store.memtable import Memtable
from services.datastore.store.segment import Segment

Part = Segment | Memtable


class Found(NamedTuple):
    """A live document: the part it is in, and its row there."""

    part: Part
    row: int

    @property
    def head(self) -> Head:
        """What it is called."""
        return self.part.head(self.row)

    @property
    def document(self) -> Document:
        """The document itself."""
        return self.part.document(self.row)


class Added(NamedTuple):
    """What became of a document: its version, the epoch from which it is found, and whether anything changed."""

    version: int
    epoch: int
    changed: bool


class Gone(NamedTuple):
    """A version of a document that may not be used any more; document "" stands for any."""

    tombstones: int
    document: str
    version: int


@dataclass(frozen=True)
class View:
    """A corpus at one moment. Deletions reach it all the same: the parts know what is dead."""

    epoch: int
    tombstones: int
    parts: tuple[Part, ...]
    quarantined: tuple[str, ...]
    lost: int
