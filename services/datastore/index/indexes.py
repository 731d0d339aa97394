"""The back ends that search the passage vectors of a corpus's segments: FAISS on disk, or a Qdrant server."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from services.datastore.files import load_array
from services.datastore.index.passage_index import EXACT_BELOW, FaissIndex, PassageIndex
from services.datastore.index.qdrant_index import QdrantIndex

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


class Indexes(Protocol):
    """The indexes of one corpus: one for each segment, by its folder."""

    def prepare(self, folder: Path) -> None:
        """Add the vectors of a finished segment, before it is published."""
        ...

    def open(self, folder: Path) -> PassageIndex:
        """Open the index of a published segment."""
        ...

    def drop(self, name: str) -> None:
        """Delete the index of a segment that no manifest names any more."""
        ...


class FaissIndexes:
    """FAISS over the segment's own files: see ``FaissIndex``."""

    def prepare(self, folder: Path) -> None:
        """Do nothing: the segment writer has trained the index already."""

    def open(self, folder: Path) -> PassageIndex:
        """See ``Indexes``."""
        index = FaissIndex(load_array(folder / "vectors.npy"), exact_below=EXACT_BELOW)
        trained = folder / "passages.faiss"
        if trained.exists():
            index.load(trained)
        return index

    def drop(self, name: str) -> None:
        """Do nothing: the index is deleted with the segment's files."""


class QdrantIndexes:
    """A partition of a Qdrant collection for each segment.

    Parameters
    ----------
    client
        Client of a Qdrant server that servers and workers can reach.
    owner
        Identifies the corpus: tenant, id and creation time.
    dim
        Dimension of its vectors.
    """

    def __init__(self, client: "QdrantClient", owner: str, dim: int) -> None:
        self._client, self._owner, self._dim = client, owner, dim

    def _index(self, name: str) -> QdrantIndex:
        return QdrantIndex(
            self._client, f"palimpsest-passages-{self._dim}", f"{self._owner}/{name}", self._dim
        )

    def prepare(self, folder: Path) -> None:
        """See ``Indexes``."""
        vectors = load_array(folder / "vectors.npy")
        self._index(folder.name).add(np.arange(len(vectors)), vectors)

    def open(self, folder: Path) -> PassageIndex:
        """See ``Indexes``."""
        return self._index(folder.name)

    def drop(self, name: str) -> None:
        """See ``Indexes``."""
        self._index(name).clear()
