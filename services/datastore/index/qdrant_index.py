"""The passage index in Qdrant, for installations that run a vector database already.

An installation uses one collection, as Qdrant recommends. Each index is a partition of it, selected by a payload field
that Qdrant indexes as a tenant key.
"""

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from services.datastore.index.passage_index import VectorHits

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_BATCH = 512
_NAMES = uuid.UUID("6f1c2a56-3f0e-4b7e-9d57-1d3f3c1b9a10")


class QdrantIndex:
    """A ``PassageIndex`` in a collection of inner products; the collection is created if it does not exist.

    Parameters
    ----------
    client
        Client of a server, or in local mode (``QdrantClient(path=...)``), which one process may open.
    collection
        Shared by all indexes of the installation with vectors of this dimension.
    partition
        Name of this index, such as ``tenant/corpus/segment``.
    dim
        Dimension of the vectors.
    """

    def __init__(self, client: "QdrantClient", collection: str, partition: str, dim: int) -> None:
        from qdrant_client import models

        self._client, self._collection, self._partition = client, collection, partition
        if not client.collection_exists(collection):
            client.create_collection(
                collection, vectors_config=models.VectorParams(size=dim, distance=models.Distance.DOT)
            )
            client.create_payload_index(
                collection,
                "partition",
                models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
            )
        match = models.MatchValue(value=partition)
        self._mine = models.Filter(must=[models.FieldCondition(key="partition", match=match)])

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See ``PassageIndex``."""
        from qdrant_client import models

        for at in range(0, len(ids), _BATCH):
            points = [
                models.PointStruct(
                    id=self._point(int(i)),
                    vector=np.asarray(vector, np.float32).tolist(),
                    payload={"partition": self._partition, "id": int(i)},
                )
                for i, vector in zip(ids[at : at + _BATCH], vectors[at : at + _BATCH], strict=True)
            ]
            self._client.upsert(self._collection, points, wait=True)

    def search(self, query: np.ndarray, k: int) -> VectorHits:
        """See ``PassageIndex``."""
        if k <= 0:
            return VectorHits(np.zeros(0, np.int64), np.zeros(0, np.float32))
        found = self._client.query_points(
            self._collection,
            query=np.asarray(query, np.float32).tolist(),
            query_filter=self._mine,
            limit=k,
            with_payload=["id"],
        ).points
        ids = [(point.payload or {})["id"] for point in found]
        return VectorHits(np.array(ids, np.int64), np.array([point.score for point in found], np.float32))

    def remove(self, ids: Sequence[int] | np.ndarray) -> None:
        """See ``PassageIndex``."""
        from qdrant_client import models

        if len(ids):
            points = models.PointIdsList(points=[self._point(int(i)) for i in ids])
            self._client.delete(self._collection, points_selector=points, wait=True)

    def count(self) -> int:
        """See ``PassageIndex``."""
        return self._client.count(self._collection, count_filter=self._mine, exact=True).count

    def clear(self) -> None:
        """Remove everything."""
        from qdrant_client import models

        self._client.delete(
            self._collection, points_selector=models.FilterSelector(filter=self._mine), wait=True
        )

    def _point(self, number: int) -> str:
        return str(uuid.uuid5(_NAMES, f"{self._partition}\0{number}"))
