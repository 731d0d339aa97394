"""The datastore room: corpora that generation quotes from byte for byte, and that can delete a document at once."""

from typing import Any

from palimpsest.rpc.imports import MODELS
from palimpsest.rpc.resources import Resources


class DatastoreRoom:
    """Serves DatastoreService over the corpora of this installation."""

    name = "datastore"
    imports = (
        *MODELS,
        "transformers.models.bert.modeling_bert",
        "faiss",
        "qdrant_client",
        "palimpsest.candidates",
        "palimpsest.ngrams",
        "services.datastore",
    )

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicer."""
        from services.datastore.service import DatastoreServicer

        self._servicer = DatastoreServicer(resources)
        return [self._servicer]

    async def stop(self) -> None:
        """Wait for running work to finish, and close the corpora."""
        await self._servicer.stop()


ROOM = DatastoreRoom()
